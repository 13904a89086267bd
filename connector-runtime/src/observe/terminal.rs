//! One line of progress on a terminal, which log lines do not tear apart.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use connector_api::clock::{Clock, Moment};
use connector_api::ids::ConnectorName;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;

use super::progress::Progress;

const REDRAW: Duration = Duration::from_millis(200);

/// The bar that is on the terminal now, if any: log lines go above it.
static BAR: std::sync::OnceLock<ProgressBar> = std::sync::OnceLock::new();

/// True if people watch: progress goes to standard error, so that a pipe gets results only.
pub fn is_watched() -> bool {
    std::io::stderr().is_terminal()
}

/// A line that is drawn until it is cleared.
#[derive(Debug)]
pub struct ProgressLine {
    bar: ProgressBar,
    drawing: JoinHandle<()>,
}

impl ProgressLine {
    /// Draws the sum of some connectors' counters until [`clear`](Self::clear).
    pub fn show(connectors: Vec<(ConnectorName, Arc<Progress>)>, clock: Arc<dyn Clock>) -> Self {
        let bar =
            BAR.get_or_init(|| ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()));
        let bar = bar.clone();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        let drawn = bar.clone();
        let drawing = tokio::spawn(async move {
            let started = clock.now();
            let mut last = (started, 0);
            loop {
                tokio::time::sleep(REDRAW).await;
                drawn.set_message(line(&connectors, started, &mut last, clock.now()));
                drawn.tick();
            }
        });
        Self { bar, drawing }
    }

    /// Takes the line off the terminal.
    pub async fn clear(self) {
        self.drawing.abort();
        self.bar.finish_and_clear();
    }
}

/// `clicks  1,234,567 records  180.2 MB  412,000 rec/s  1,200,000 visible  62 %, 3 s left`.
fn line(
    connectors: &[(ConnectorName, Arc<Progress>)],
    started: Moment,
    last: &mut (Moment, u64),
    now: Moment,
) -> String {
    let (mut read, mut bytes, mut visible, mut to_cover, mut covered) = (0, 0, 0, 0, 0);
    for (_, progress) in connectors {
        let counts = progress.counts();
        read += counts.read;
        bytes += counts.bytes;
        visible += counts.visible;
        to_cover += progress.to_cover.load(Ordering::Relaxed);
        covered += progress.covered.load(Ordering::Relaxed);
    }
    let name = match connectors {
        [(name, _)] => name.to_string(),
        many => format!("{} connectors", many.len()),
    };
    let seconds = now.since(last.0).as_secs_f64();
    let rate = if seconds > 0.0 { (read - last.1) as f64 / seconds } else { 0.0 };
    *last = (now, read);
    let megabytes = bytes as f64 / 1e6;
    let mut text = format!(
        "{name}  {} records  {megabytes:.1} MB  {} rec/s  {} rows visible",
        grouped(read),
        grouped(rate as u64),
        grouped(visible)
    );
    if to_cover > 0 {
        let done = covered.max(read).min(to_cover);
        let percent = done * 100 / to_cover;
        text.push_str(&format!("  {percent} %"));
        if done > 0 && done < to_cover {
            let passed = now.since(started).as_secs_f64();
            let left = passed / done as f64 * (to_cover - done) as f64;
            text.push_str(&format!(", {left:.0} s left"));
        }
    }
    text
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Standard error for logs: above the progress line, if there is one.
#[derive(Debug, Default, Clone, Copy)]
pub struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let write = || std::io::stderr().lock().write_all(bytes);
        match BAR.get().filter(|bar| !bar.is_finished()) {
            Some(bar) => bar.suspend(write)?,
            None => write()?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let shown: Vec<String> = [0, 999, 1000, 1_234_567].map(grouped).into();
        assert_eq!(shown, ["0", "999", "1,000", "1,234,567"]);
    }
}
