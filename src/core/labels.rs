//! Labels, and what must hold of them, as Kubernetes has it.

use kube::core::{Expression, Selector};

use crate::api::application::{LabelOperator, ObjectSelector};

/// What the client's own library compares labels with.
#[must_use]
pub fn selector(of: &ObjectSelector) -> Selector {
    let equal = of.match_labels.iter().map(|(key, value)| Expression::Equal(key.clone(), value.clone()));
    let others = of.match_expressions.iter().map(|it| {
        let (key, values) = (it.key.clone(), it.values.iter().cloned().collect());
        match it.operator {
            LabelOperator::In => Expression::In(key, values),
            LabelOperator::NotIn => Expression::NotIn(key, values),
            LabelOperator::Exists => Expression::Exists(key),
            LabelOperator::DoesNotExist => Expression::DoesNotExist(key),
        }
    });
    equal.chain(others).collect()
}
