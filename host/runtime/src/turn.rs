use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::Sleep;

use crate::clock::{Meter, Overrun};
use crate::place;
use crate::ticker::Gate;

/// A timer that turns of one instance share, made when the first of them waits.
pub(crate) type WallTimer = Option<Pin<Box<Sleep>>>;

/// One call of a guest, metered and bounded in time. Dropping it drops the call, and the instance is not usable then.
pub(crate) struct Turn<'a, F> {
    call: Pin<&'a mut F>,
    gate: &'a Gate,
    meter: &'a Meter,
    timer: &'a mut WallTimer,
}

impl<'a, F> Turn<'a, F> {
    pub(crate) fn new(
        call: Pin<&'a mut F>,
        gate: &'a Gate,
        meter: &'a Meter,
        timer: &'a mut WallTimer,
    ) -> Self {
        Self { call, gate, meter, timer }
    }
}

impl<F: Future> Future for Turn<'_, F> {
    type Output = Result<F::Output, Overrun>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.meter.poll_started();
        let running = this.gate.enter();
        let polled = this.call.as_mut().poll(cx);
        drop(running);
        if let Poll::Ready(output) = polled {
            this.meter.turn_ended();
            return Poll::Ready(Ok(output));
        }
        let deadline = this.meter.poll_ended();
        // While the guest computes, the meter looks at the wall clock at each tick.
        if place::is_leaving() {
            return Poll::Pending;
        }
        let Some(deadline) = deadline else { return Poll::Pending };
        let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx).map(|()| Err(Overrun::Wall))
    }
}
