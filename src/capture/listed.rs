//! What was read of one kind: which objects are taken, where their text lies, and what they refer to.
//!
//! `collect` and `cluster` fill it page by page; `assemble` makes a bundle of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;

use super::{
    blocks::{self, Blocks, Span},
    bundle::Id,
    collect::{CaptureError, Limits},
    discover::Resource,
    object,
    references::{self, Reference},
    rules::{self, LeftOut},
    select::{Candidate, Selection},
};

/// What is shared by the lists of one capture.
pub(super) struct Work {
    pub namespace: String,
    pub limits: Limits,
    pub selection: Selection,
    pub blocks: Mutex<Blocks>,
}

impl Work {
    pub fn blocks(&self) -> MutexGuard<'_, Blocks> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the text of a page whose objects lie in it, and returns its number.
    fn keep(&self, text: &[u8]) -> Result<u32, CaptureError> {
        let packed = blocks::pack(text).map_err(CaptureError::Spool)?;
        let mut blocks = self.blocks();
        if blocks.text_bytes() + text.len() as u64 > self.limits.total_bytes {
            return Err(CaptureError::TooLarge { namespace: self.namespace.clone(), limit: self.limits.total_bytes });
        }
        blocks.add(&packed, text.len()).map_err(CaptureError::Spool)
    }
}

/// An object that was read: its name, and where it lies.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub name: Box<str>,
    pub at: Span,
}

/// What was read of one kind.
#[derive(Debug)]
pub(super) struct Listed {
    pub of: Arc<Resource>,
    pub rows: Vec<Row>,
    /// Pods that were bare and are remembered while the application is stopped.
    pub remembered: Vec<Row>,
    /// Objects that are not selected, and that one which is may need.
    pub candidates: Vec<Candidate<Row>>,
    /// What the selected objects refer to.
    pub references: BTreeSet<Reference>,
    pub left_out: BTreeMap<String, (u64, bool)>,
    pub failed: Vec<String>,
    /// Whether not even the first page was read.
    pub unlisted: bool,
}

impl Listed {
    pub fn nothing(of: Arc<Resource>) -> Self {
        Self {
            of,
            rows: vec![],
            remembered: vec![],
            candidates: vec![],
            references: BTreeSet::new(),
            left_out: BTreeMap::new(),
            failed: vec![],
            unlisted: false,
        }
    }

    pub fn leave_out(&mut self, kind: &str, reason: LeftOut) {
        let (count, _) = self.left_out.entry(format!("{kind}: {}", reason.why)).or_insert((0, reason.lasting));
        *count += 1;
    }

    pub fn add(&mut self, page: Self) {
        self.rows.extend(page.rows);
        self.remembered.extend(page.remembered);
        self.candidates.extend(page.candidates);
        self.references.extend(page.references);
        self.failed.extend(page.failed);
        for (reason, (count, lasting)) in page.left_out {
            self.left_out.entry(reason).or_insert((0, lasting)).0 += count;
        }
    }
}

/// Why an object is left out that `spec.backup.objects.selector` does not select.
pub(super) const NOT_SELECTED: LeftOut = LeftOut { why: "not selected by its labels", lasting: false };

/// Objects of one kind that are written away together.
pub(super) struct Page<'a> {
    work: &'a Work,
    text: Vec<u8>,
    pub listed: Listed,
}

impl<'a> Page<'a> {
    pub fn new(of: &Arc<Resource>, work: &'a Work) -> Self {
        Self { work, text: Vec::new(), listed: Listed::nothing(Arc::clone(of)) }
    }

    /// Takes a cleaned object in, if it is selected, or one that is may need it.
    pub fn add(&mut self, object: &Value) {
        let of = Arc::clone(&self.listed.of);
        let refers_to = references::of(&of.group, &of.kind, object);
        if self.work.selection.has(object) {
            if let Some(row) = self.write(&of, object) {
                self.refer(&of, object, refers_to);
                self.listed.rows.push(row);
            }
        } else if references::may_be_needed(&of.group, &of.kind) {
            let binding = of.kind == "RoleBinding";
            let gives_to = if binding { references::subjects(object, &self.work.namespace) } else { None };
            if let Some(row) = self.write(&of, object) {
                let (group, kind, name) = (of.group.clone(), of.kind.clone(), row.name.to_string());
                self.listed.candidates.push(Candidate { group, kind, name, gives_to, refers_to, with: row });
            }
        } else {
            self.listed.leave_out(&of.kind, NOT_SELECTED);
        }
    }

    /// Takes in an object of the cluster.
    pub fn add_of_cluster(&mut self, object: &Value) {
        let of = Arc::clone(&self.listed.of);
        if let Some(row) = self.write(&of, object) {
            self.listed.references.extend(references::of(&of.group, &of.kind, object));
            self.listed.rows.push(row);
        }
    }

    /// Takes in a pod that was bare and is remembered.
    pub fn remembered(&mut self, pod: &Value) {
        let of = Resource::new("", "v1", "Pod", "pods");
        match rules::left_out(&of, pod) {
            Some(reason) => self.listed.leave_out(&of.kind, reason),
            None if !self.work.selection.has_kind(&of) => {}
            None if !self.work.selection.has(pod) => self.listed.leave_out(&of.kind, NOT_SELECTED),
            None => {
                if let Some(row) = self.write(&of, pod) {
                    self.refer(&of, pod, references::of("", "Pod", pod));
                    self.listed.remembered.push(row);
                }
            }
        }
    }

    /// Notes what a selected object refers to. References within the namespace matter only when labels select.
    fn refer(&mut self, of: &Resource, object: &Value, refers_to: Vec<Reference>) {
        let all = self.work.selection.by_labels();
        let counts = |it: &Reference| all || references::carried(it) != references::Carried::WithNamespace;
        self.listed.references.extend(refers_to.into_iter().filter(counts));
        if all && (of.group.as_str(), of.kind.as_str()) == ("", "ServiceAccount") {
            // Bindings name it, and not the other way round.
            self.listed.references.extend(Reference::to("", "ServiceAccount", object::name(object)));
        }
    }

    /// Appends an object to the text. `None` when it cannot be in a bundle: that is told in `failed`.
    fn write(&mut self, of: &Resource, object: &Value) -> Option<Row> {
        let id = Id {
            group: of.group.clone(),
            kind: of.kind.clone(),
            namespace: object.pointer("/metadata/namespace").and_then(Value::as_str).map(str::to_owned),
            name: object::name(object).to_owned(),
        };
        let placed = id.namespace.as_ref().is_none_or(|it| *it == self.work.namespace) && id.scope() == of.scope;
        if !id.valid() || !placed {
            self.listed.failed.push(format!("{} {:?}: not a name in this namespace", of.name(), id.name));
            return None;
        }
        let start = self.text.len();
        // `Value` keeps its keys sorted: this is canonical, and the one time that an object is written.
        let written = serde_json::to_writer(&mut self.text, object);
        let length = self.text.len() - start;
        let limit = self.work.limits.object_bytes;
        let reason = match (written, u32::try_from(start), u32::try_from(length)) {
            (Ok(()), Ok(start), Ok(bytes)) if u64::from(bytes) <= limit => {
                return Some(Row { name: id.name.into(), at: Span::new(start, bytes) });
            }
            (Err(_), _, _) => "not JSON".to_owned(),
            (Ok(()), _, _) => format!("larger than {limit} bytes"),
        };
        self.text.truncate(start);
        self.listed.failed.push(format!("{} {}: {reason}", of.name(), id.name));
        None
    }

    /// Writes the text away.
    pub fn done(mut self) -> Result<Listed, CaptureError> {
        if !self.text.is_empty() {
            let block = self.work.keep(&self.text)?;
            let rows = self.listed.rows.iter_mut().chain(&mut self.listed.remembered);
            rows.chain(self.listed.candidates.iter_mut().map(|it| &mut it.with))
                .for_each(|it| it.at = it.at.within(block));
        }
        Ok(self.listed)
    }
}
