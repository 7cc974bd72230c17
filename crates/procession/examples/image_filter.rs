//! Blurs an image in shared memory, one band of rows in each process: `cargo run --release --example image_filter`
//!
//! Source and result are shared slices, which are sent as handles. No pixel is copied from one process to another.
#![allow(clippy::print_stdout)]

use procession::{Process, SharedSlice};
use std::ops::Range;

const WIDTH: usize = 640;
const HEIGHT: usize = 480;
const BANDS: usize = 4;

/// Replaces each pixel of a band by the mean of itself and its neighbours. Each band has a process of its own.
fn blur((source, result, rows): (SharedSlice<f32>, SharedSlice<f32>, Range<usize>)) {
    for y in rows {
        let line: Vec<f32> = (0..WIDTH)
            .map(|x| {
                let near = |n: usize, most: usize| n.saturating_sub(1)..=(n + 1).min(most - 1);
                let pixels = near(y, HEIGHT).flat_map(|y| near(x, WIDTH).map(move |x| (x, y)));
                let (sum, count) = pixels.fold((0.0, 0.0), |(sum, count), (x, y)| {
                    (sum + source.get(y * WIDTH + x), count + 1.0)
                });
                sum / count
            })
            .collect();
        result.write(y * WIDTH, &line);
    }
}

fn main() -> procession::Result<()> {
    procession::init();
    let source = SharedSlice::zeroed(WIDTH * HEIGHT)?;
    let result = SharedSlice::zeroed(WIDTH * HEIGHT)?;
    // A white point in the middle.
    source.set(HEIGHT / 2 * WIDTH + WIDTH / 2, 9.0);
    let rows = HEIGHT / BANDS;
    let bands = (0..BANDS)
        .map(|n| Process::spawn(blur, (source.clone(), result.clone(), n * rows..(n + 1) * rows)))
        .collect::<Result<Vec<_>, _>>()?;
    for band in bands {
        band.join()?;
    }
    let light: Vec<f32> = result.to_vec().into_iter().filter(|pixel| *pixel > 0.0).collect();
    println!("the point has become {} pixels of {}", light.len(), light[0]);
    assert_eq!(light, [1.0; 9]);
    Ok(())
}
