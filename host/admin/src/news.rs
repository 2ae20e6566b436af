//! How a deployment gets on, as lines of JSON (NDJSON): one for each piece of news, the last one says how it ended.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderValue, Response, header};
use hyper::body::Frame;
use serde_json::{Value, json};
use tidegate_base::Token;
use tidegate_wire::report::{Outcome, Progress, SwapReport};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::refused::refused;
use crate::steering::{News, Underway};

/// The media type of the lines.
pub(crate) const CONTENT_TYPE: &str = "application/x-ndjson";

/// A silence that long is filled, so that proxies in between keep the connection.
const BEAT: Duration = Duration::from_secs(5);
/// Lines that wait for a client who reads slowly; what comes then is told when there is room.
const LINES_MAX: usize = 64;

/// Tells of a deployment from this first line on. It goes on, whether somebody reads or not.
pub(crate) fn stream(
    first: Value,
    underway: Box<dyn Underway>,
    token: std::sync::Arc<Token>,
    room: OwnedSemaphorePermit,
) -> Response<Body> {
    let (lines, body) = mpsc::channel(LINES_MAX);
    tokio::spawn(async move {
        tell(first, underway, &token, &lines).await;
        drop(room);
    });
    let mut response = Response::new(Body::new(Lines(body)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A piece of news.
pub(crate) fn of_progress(progress: &Progress) -> Value {
    let text = progress.to_string();
    let mut line = match progress {
        Progress::Started { version, workers, slots } => {
            json!({"news": "started", "version": version, "workers": workers, "slots": slots})
        }
        Progress::Worker { worker, step, switched, slots } => {
            json!({"news": "worker", "worker": worker, "step": step, "switched": switched, "slots": slots})
        }
        Progress::Canary { slots, of } => json!({"news": "canary", "slots": slots, "of": of}),
        Progress::Switching { verdict } => json!({"news": "switching", "verdict": verdict}),
        Progress::Failed { worker, failure } => {
            json!({"news": "failed", "worker": worker, "failure": failure})
        }
        Progress::GoingBack { reason } => json!({"news": "going-back", "reason": reason}),
        Progress::NotStored { reason } => json!({"news": "not-stored", "reason": reason}),
        Progress::Ended(report) => return of_end(report),
    };
    if let Some(fields) = line.as_object_mut() {
        fields.insert("text".to_owned(), text.trim_end().into());
    }
    line
}

/// The last line.
pub(crate) fn of_end(report: &SwapReport) -> Value {
    let text = report.outcome.to_string();
    json!({"news": "ended", "outcome": outcome(&report.outcome), "text": text, "report": report})
}

/// How it ended, in a word.
pub(crate) const fn outcome(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Committed => "committed",
        Outcome::RolledBack { .. } => "rolled-back",
        Outcome::Mixed { .. } => "mixed",
    }
}

async fn tell(first: Value, mut underway: Box<dyn Underway>, token: &Token, lines: &mpsc::Sender<Bytes>) {
    let mut line = first;
    loop {
        let is_last = matches!(line["news"].as_str(), Some("ended" | "refused"));
        let mut text = line.to_string();
        text.push('\n');
        // Who is gone does not hear the rest.
        if lines.send(text.into()).await.is_err() || is_last {
            return;
        }
        line = match tokio::time::timeout(BEAT, underway.next()).await {
            Err(_) => json!({"news": "waiting", "text": "it goes on"}),
            Ok(News::Progress(progress)) => of_progress(&progress),
            Ok(News::Ended(ended)) => match *ended {
                Ok(report) => of_end(&report),
                Err(refusal) => {
                    let problem = refused(refusal, token);
                    json!({"news": "refused", "text": problem.detail, "problem": problem.to_value()})
                }
            },
        };
    }
}

/// A body of lines that come.
struct Lines(mpsc::Receiver<Bytes>);

impl HttpBody for Lines {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}
