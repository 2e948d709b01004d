//! One flight: many wait for what one fetches.
//!
//! In: how the flight landed, once. Out: the same, to every waiter, also those who come to ask afterwards. No runtime.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// How a flight ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Landed<V> {
    /// With the value.
    Found(V),
    /// Without: there is none to be had.
    Absent,
    /// Its owner went away first: look again.
    Abandoned,
}

#[derive(Debug)]
pub(super) struct Flight<V> {
    state: Mutex<Air<V>>,
}

#[derive(Debug)]
struct Air<V> {
    landed: Option<Landed<V>>,
    /// Who to wake, by seat; a seat is empty when its waiter has left or has not been polled.
    seats: Vec<Option<Waker>>,
    /// Seats that were left, to be taken again: there are never more seats than waiters at once.
    free: Vec<usize>,
}

/// Waits for a flight to land. Dropping it leaves the flight to the others.
#[derive(Debug)]
pub struct Waiter<V> {
    flight: Arc<Flight<V>>,
    seat: Option<usize>,
}

impl<V: Clone> Flight<V> {
    pub(super) fn new() -> Arc<Flight<V>> {
        Arc::new(Flight { state: Mutex::new(Air { landed: None, seats: Vec::new(), free: Vec::new() }) })
    }

    pub(super) fn waiter(flight: &Arc<Flight<V>>) -> Waiter<V> {
        Waiter { flight: flight.clone(), seat: None }
    }

    pub(super) fn land(&self, landed: Landed<V>) {
        let mut air = self.lock();
        air.landed.get_or_insert(landed);
        let seats = std::mem::take(&mut air.seats);
        drop(air);
        seats.into_iter().flatten().for_each(Waker::wake);
    }
}

impl<V> Flight<V> {
    fn lock(&self) -> MutexGuard<'_, Air<V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V: Clone> Future for Waiter<V> {
    type Output = Landed<V>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Landed<V>> {
        let flight = self.flight.clone();
        let mut air = flight.lock();
        if let Some(landed) = &air.landed {
            return Poll::Ready(landed.clone());
        }
        let waker = Some(context.waker().clone());
        match self.seat {
            Some(seat) => air.seats[seat] = waker,
            None => {
                let seat = air.free.pop().unwrap_or(air.seats.len());
                if seat == air.seats.len() {
                    air.seats.push(waker)
                } else {
                    air.seats[seat] = waker
                }
                self.seat = Some(seat);
            }
        }
        Poll::Pending
    }
}

impl<V> Drop for Waiter<V> {
    fn drop(&mut self) {
        if let Some(seat) = self.seat {
            let mut air = self.flight.lock();
            // After the landing the seats are gone.
            if air.landed.is_none() {
                air.seats[seat] = None;
                air.free.push(seat);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn all_who_wait_hear_of_the_landing_once() {
        let flight = Flight::new();
        let (mut first, mut second) = (pin!(Flight::waiter(&flight)), pin!(Flight::waiter(&flight)));
        assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
        flight.land(Landed::Found(3));
        flight.land(Landed::Absent);
        assert_eq!(poll(first), Poll::Ready(Landed::Found(3)));
        assert_eq!(poll(second), Poll::Ready(Landed::Found(3)));
        assert_eq!(poll(pin!(Flight::waiter(&flight))), Poll::Ready(Landed::Found(3)));
    }

    #[test]
    fn seats_of_those_who_left_are_taken_again() {
        let flight = Flight::<u8>::new();
        let mut stays = Box::pin(Flight::waiter(&flight));
        assert!(poll(stays.as_mut()).is_pending());
        for _ in 0..100 {
            let mut leaves = Box::pin(Flight::waiter(&flight));
            assert!(poll(leaves.as_mut()).is_pending());
        }
        assert_eq!(flight.lock().seats.len(), 2);
    }
}
