//! The archive that keeps its pictures: the same pictures as without, and none decoded twice.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

use releve_watermark::GopId;
use releve_watermark::detect::{Choice, EARLY_S, Frame, Gop, Kept, PictureError, Pictures, References};
use std::cell::RefCell;
use std::ops::Range;

/// Ten GOPs of a second, five pictures each, less those in a hole; pictures lie in the hole, too.
struct Film {
    gops: Vec<Gop>,
    asked: RefCell<Vec<Range<usize>>>,
    fails: bool,
}

fn film(hole: Range<usize>) -> Film {
    let gop = |number: usize| Gop {
        id: GopId([number as u8; 16]),
        start_s: number as f64,
        end_s: (number + 1) as f64,
        edges: Vec::new(),
    };
    let gops = (0..10).filter(|number| !hole.contains(number)).map(gop).collect();
    Film { gops, asked: RefCell::default(), fails: false }
}

impl References for Film {
    fn gops(&self) -> &[Gop] {
        &self.gops
    }

    fn pictures(
        &self,
        gops: Range<usize>,
        choice: Choice,
        width: usize,
        height: usize,
    ) -> Result<Pictures, PictureError> {
        self.asked.borrow_mut().push(gops.clone());
        let (first, last) = (&self.gops[gops.start], &self.gops[gops.end - 1]);
        let wanted = first.start_s - EARLY_S..last.end_s - EARLY_S;
        let times = (0..50).map(|index| f64::from(index) / 5.0 - EARLY_S / 2.0);
        let frame = move |time_s: f64| {
            let level = (time_s * 10.0).round() as u8 + 100 * u8::from(choice == Choice::B);
            Frame { time_s, width, height, luma: vec![level; width * height] }
        };
        let fails = self.fails;
        let times: Vec<f64> = times.filter(|time_s| wanted.contains(time_s)).collect();
        let of_time =
            move |time_s: f64| if fails && time_s > 3.5 { Err("torn".into()) } else { Ok(frame(time_s)) };
        Ok(Box::new(times.into_iter().map(of_time)))
    }
}

fn seen(archive: &dyn References, gops: Range<usize>, choice: Choice) -> Vec<Frame> {
    archive.pictures(gops, choice, 4, 2).unwrap().map(|frame| frame.unwrap()).collect()
}

#[test]
fn whatever_was_asked_before_the_pictures_are_the_archives() {
    for hole in [0..0, 3..5, 9..10] {
        let direct = film(hole.clone());
        let count = direct.gops.len();
        let orders = [
            vec![2..3, 1..5, 3..4, 0..count, 4..count, 2..4, 0..3, 0..count],
            vec![3..5, 2..5, 0..count], // what lies behind a hole is kept before what lies ahead of it
        ];
        for (order, ranges) in orders.into_iter().enumerate() {
            let of = film(hole.clone());
            let kept = Kept::new(&of);
            for (turn, range) in ranges.into_iter().enumerate() {
                for choice in [Choice::A, Choice::B] {
                    let right = seen(&direct, range.clone(), choice);
                    let got = seen(&kept, range.clone(), choice);
                    assert_eq!(got, right, "order {order}, turn {turn}, hole {hole:?}");
                }
            }
        }
    }
}

#[test]
fn nothing_is_decoded_twice() {
    let film = film(3..5);
    let kept = Kept::new(&film);
    let all = film.gops.len();
    seen(&kept, 1..3, Choice::A);
    // The hole's pictures come with the third GOP, and so that one is asked for again.
    seen(&kept, 0..all, Choice::A);
    seen(&kept, 0..all, Choice::A);
    seen(&kept, 2..5, Choice::A);
    assert_eq!(*film.asked.borrow(), [1..3, 0..1, 2..all]);
    assert_eq!(kept.gops(), film.gops());
}

#[test]
fn what_does_not_fit_and_what_was_not_read_to_its_end_is_asked_for_again() {
    let (film, whole) = (film(0..0), film(0..0));
    let kept = Kept::of(&film, 2 * 5 * 8);
    seen(&kept, 0..4, Choice::A);
    seen(&kept, 0..4, Choice::A);
    assert_eq!(*film.asked.borrow(), [0..4, 2..4], "two GOPs of five pictures of eight bytes fit");

    let film = Film { fails: true, ..whole };
    let kept = Kept::new(&film);
    let ends =
        |range| kept.pictures(range, Choice::A, 4, 2).unwrap().take(19).map(|frame| frame.is_err()).collect();
    let first: Vec<bool> = ends(0..8);
    assert!(first.contains(&true) && !first[..18].contains(&true));
    assert_eq!(first, ends(0..8));
    assert_eq!(*film.asked.borrow(), [0..8, 3..8]);
}
