//! The examples run to their end and print what they are to print.

use std::error::Error;

#[expect(dead_code, reason = "an example's `main` is for running it by hand")]
#[path = "../examples/rules.rs"]
mod rules;
#[expect(dead_code, reason = "an example's `main` is for running it by hand")]
#[path = "../examples/supervisor.rs"]
mod supervisor;
#[expect(dead_code, reason = "an example's `main` is for running it by hand")]
#[path = "../examples/workflow.rs"]
mod workflow;

#[track_caller]
fn check(out: Vec<u8>, expected: &str) {
    let out = String::from_utf8(out).expect("an example prints UTF-8");
    // Lines, so that a failure shows them as such.
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(&out), lines(expected));
}

#[tokio::test(start_paused = true)]
async fn a_workflow_tries_again_fails_resumes_and_is_canceled() -> Result<(), Box<dyn Error>> {
    let mut out = Vec::new();
    workflow::run(&mut out).await?;
    check(out, include_str!("examples/workflow.txt"));
    Ok(())
}

#[tokio::test]
async fn a_supervisor_connects_again_and_alarms_where_there_is_no_quorum()
-> Result<(), Box<dyn Error>> {
    let mut out = Vec::new();
    supervisor::run(&mut out).await?;
    check(out, include_str!("examples/supervisor.txt"));
    Ok(())
}

#[tokio::test]
async fn rules_decide_and_say_why() -> Result<(), Box<dyn Error>> {
    let mut out = Vec::new();
    rules::run(&mut out).await?;
    check(out, include_str!("examples/rules.txt"));
    Ok(())
}
