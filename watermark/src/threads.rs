//! Work that several threads share and whose outcome does not depend on how many they are.
//!
//! In: items and what is to be done to each. Out: the results, in the items' order. Touches threads, which end before it
//! returns; the work itself may touch what its caller may.

use std::sync::{Mutex, PoisonError};

/// As many as this machine runs at once.
pub(crate) fn all() -> usize {
    std::thread::available_parallelism().map_or(1, |threads| threads.get())
}

/// Does `work` to each item; a thread takes the next one when it is through with its last. A panic in `work` goes on here.
pub(crate) fn each<T, R: Send>(
    items: impl Iterator<Item = T> + Send,
    threads: usize,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    if threads <= 1 {
        return items.map(work).collect();
    }
    let queue = Mutex::new(items.enumerate());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let run = || {
        let mut done = Vec::new();
        while let Some((index, item)) = next() {
            done.push((index, work(item)));
        }
        done
    };
    let mut done = std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(run)).collect();
        let mut done = run();
        for helper in helpers {
            done.extend(helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        done
    });
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_however_many_work() {
        for threads in [0, 1, 2, 7] {
            for count in [0, 1, 3, 100] {
                let squares = each(0..count, threads, |number: u64| number * number);
                assert_eq!(squares, (0..count).map(|number| number * number).collect::<Vec<_>>());
            }
        }
        let mut numbers = [1, 2, 3];
        each(numbers.iter_mut(), 2, |number| *number += 1);
        assert_eq!(numbers, [2, 3, 4]);
    }
}
