//! One program, run to its end: with a deadline, with its output, and with an error that shows both.

use std::{
    ffi::OsStr,
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};

/// Run the program and return what it printed on standard output.
///
/// `timeout` of coreutils ends it, with its children, when `within` has passed.
///
/// # Errors
/// When it cannot be started, ends with another code than 0, or takes too long: with the end of what it said.
pub fn run<S: AsRef<OsStr>>(within: Duration, command: &[S], input: Option<&str>) -> Result<String> {
    let said: Vec<String> = command.iter().map(|it| it.as_ref().to_string_lossy().into_owned()).collect();
    let shown = said.join(" ");
    let mut child = Command::new("timeout")
        .args(["--kill-after=5", &within.as_secs().to_string()])
        .args(command)
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {shown}"))?;
    if let (Some(text), Some(mut to)) = (input, child.stdin.take()) {
        // A program that ends early has its own word to say: it follows.
        let _ = to.write_all(text.as_bytes());
    }
    let ended = child.wait_with_output().with_context(|| format!("wait for {shown}"))?;
    if ended.status.success() {
        return String::from_utf8(ended.stdout).with_context(|| format!("read the output of {shown}"));
    }
    let why = match ended.status.code() {
        Some(124 | 137) => format!("took more than {} s", within.as_secs()),
        Some(code) => format!("ended with {code}"),
        None => "was ended by a signal".to_owned(),
    };
    bail!("{shown}: {why}\n{}{}", tail(&ended.stdout), tail(&ended.stderr))
}

/// Run the program with its output going where ours goes: for what takes minutes.
///
/// # Errors
/// When it cannot be started, ends with another code than 0, or takes too long.
pub fn show<S: AsRef<OsStr>>(within: Duration, command: &[S]) -> Result<()> {
    let mut child = Command::new("timeout");
    child.args(["--foreground", "--kill-after=5", &within.as_secs().to_string()]).args(command).stdin(Stdio::null());
    let status = child.status().context("start timeout")?;
    let shown: Vec<_> = command.iter().map(|it| it.as_ref().to_string_lossy()).collect();
    if status.success() { Ok(()) } else { bail!("{}: {status}", shown.join(" ")) }
}

/// The last lines of what a program said.
fn tail(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].iter().flat_map(|line| ["  ", line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_takes_too_long_is_ended_and_named() {
        let error = run(Duration::from_secs(1), &["sleep", "30"], None).expect_err("too long");
        assert!(error.to_string().starts_with("sleep 30: took more than 1 s"), "{error}");
    }

    #[test]
    fn a_failure_shows_what_the_program_said() {
        let error = run(Duration::from_secs(5), &["sh", "-c", "cat; echo no >&2; exit 3"], Some("why\n"));
        assert_eq!(error.expect_err("3").to_string(), "sh -c cat; echo no >&2; exit 3: ended with 3\n  why\n  no\n");
    }
}
