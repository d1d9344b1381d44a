//! A progress bar for people who wait.

use std::{io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

use super::async_result::AsyncResult;
use crate::error::Result;

/// How often the bar is drawn anew.
const REDRAW: Duration = Duration::from_millis(100);

/// Where the standard error output is no terminal: how often a line is written.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Waits until all tasks have ended and shows how far they are.
pub(super) fn watch<R, S>(result: &mut AsyncResult<R, S>) -> Result<()> {
    let on_terminal = std::io::stderr().is_terminal();
    let bar = if on_terminal { ProgressBar::new(result.len() as u64) } else { ProgressBar::hidden() };
    bar.set_style(style());
    let mut lines = 0;
    let ended = loop {
        let ended = result.wait(Some(REDRAW));
        let progress = result.progress();
        bar.set_position(progress.done as u64);
        if progress.failed > 0 {
            bar.set_message(format!("{} failed", progress.failed));
        }
        match ended {
            Ok(true) => break Ok(()),
            Err(error) => break Err(error),
            Ok(false) => {}
        }
        lines += 1;
        if !on_terminal && lines % (LINE_EVERY.as_millis() / REDRAW.as_millis()) == 0 {
            eprintln!("{} of {} tasks done", progress.done, progress.total);
        }
    };
    match ended {
        Ok(()) => bar.finish(),
        Err(_) => bar.abandon(),
    }
    ended
}

fn style() -> ProgressStyle {
    let template = "{wide_bar} {pos}/{len} tasks  {per_sec}  {elapsed} gone, {eta} left  {msg}";
    // The template is a constant that indicatif accepts, which a test shows.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_template_is_accepted() {
        let template = "{wide_bar} {pos}/{len} tasks  {per_sec}  {elapsed} gone, {eta} left  {msg}";
        assert!(indicatif::ProgressStyle::with_template(template).is_ok());
    }
}
