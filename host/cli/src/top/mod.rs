//! `top`: what goes on in a node or a cluster, live, or once for scripts.
//!
//! ```text
//!  nodes --> source --> sample --+--> figures, the differences --> state --> page --> draw
//!            (a thread)          |                                  ^ keys (a thread)
//!                                +--> once: a table, or JSON
//! ```

mod columns;
mod draw;
mod figures;
mod json;
mod source;
mod state;
mod terminal;

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

pub(crate) use self::columns::View;
use self::figures::{Figures, Sample};
use self::source::Source;
use self::state::{Then, Top};
use self::terminal::{Event, Screen};
use crate::args::TopArgs;
use crate::failure::{Failure, Outcome};
use crate::output::{columns, print, print_json};
use crate::run::Signals;

pub(crate) fn top(args: &TopArgs) -> Outcome {
    let mut source = Source::find(&args.whom)?;
    let top = Top::new(args.view, &args.filter);
    if args.once || args.whom.local.json {
        return once(args, &mut source, top);
    }
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        let text = "there is no terminal to draw on: use --once for a table, or --json";
        return Err(Failure::new(Failure::USAGE, text));
    }
    // Whoever cannot be asked at all is told so where it can be read.
    let first = Sample { at: Duration::ZERO, nodes: source.hear()? };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::with(Failure::SOFTWARE))?;
    runtime.block_on(live(top, first, source, args.interval))
}

/// Two looks, and what went on in between.
fn once(args: &TopArgs, source: &mut Source, mut top: Top) -> Outcome {
    let begun = Instant::now();
    let before = Sample { at: begun.elapsed(), nodes: source.hear()? };
    std::thread::sleep(args.interval);
    let now = Sample { at: begun.elapsed(), nodes: source.hear()? };
    if args.whom.local.json {
        print_json(&json::told(&Figures::between(Some(&before), &now)));
        return Ok(());
    }
    top.on_sample(before);
    top.on_sample(now);
    let page = top.page(u16::MAX, u16::MAX);
    let heads = page.columns.iter().map(|(column, ..)| column.title.to_owned()).collect();
    print(&columns(
        &std::iter::once(heads).chain(page.rows.into_iter().map(|row| row.cells)).collect::<Vec<_>>(),
    ));
    Ok(())
}

/// Until somebody has seen enough, or a signal ends it.
async fn live(mut top: Top, first: Sample, source: Source, interval: Duration) -> Outcome {
    let failed = Failure::with(Failure::SOFTWARE);
    let mut signals = Signals::new().map_err(&failed)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(&failed)?;
    top.on_sample(first);
    let mut samples = source.sampling(interval).map_err(&failed)?;
    let mut screen = Screen::open().map_err(&failed)?;
    let mut events = terminal::events().map_err(&failed)?;
    loop {
        screen.draw(&top).map_err(&failed)?;
        tokio::select! {
            event = events.recv() => match event {
                Some(Event::Key(key)) if top.on_key(key) == Then::Quit => return Ok(()),
                Some(Event::Key(_) | Event::Resized) => {}
                // The terminal is gone.
                None => return Ok(()),
            },
            sample = samples.recv() => hear(&mut top, sample),
            _ = signals.next() => return Ok(()),
            _ = hang_up.recv() => return Ok(()),
        }
    }
}

fn hear(top: &mut Top, sample: Option<Result<Sample, Failure>>) {
    match sample {
        Some(Ok(sample)) => top.on_sample(sample),
        Some(Err(failure)) => top.on_trouble(failure.to_string()),
        None => top.on_trouble("nobody asks any more: start it again".to_owned()),
    }
}

impl Source {
    /// Asks again and again, on a thread, until nobody listens.
    fn sampling(mut self, interval: Duration) -> std::io::Result<mpsc::Receiver<Result<Sample, Failure>>> {
        // Whoever draws takes each before the next one is there.
        let (tx, rx) = mpsc::channel(1);
        let begun = Instant::now();
        let ask = move || {
            loop {
                std::thread::sleep(interval);
                // Nodes say how they are now; one that hangs is waited for.
                let at = begun.elapsed();
                let sample = self.hear().map(|nodes| Sample { at, nodes });
                if tx.blocking_send(sample).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("tidegate-top-ask".to_owned()).spawn(ask)?;
        Ok(rx)
    }
}
