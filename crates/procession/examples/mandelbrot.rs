//! Draws the Mandelbrot set in tiles, into shared memory: `cargo run --release --example mandelbrot -- [FILE.pgm]`
//!
//! Every worker has a handle of the image and writes its pixels in place, so a task is four numbers and has no value. The
//! pool's initializer gives the image to each worker once, also to one that takes the place of a dead worker. With an argument,
//! the image is written to a file.
#![allow(clippy::print_stdout)]

use procession::{Pool, SharedSlice};
use serde::{Deserialize, Serialize};
use std::sync::OnceLock;

const WIDTH: usize = 768;
const HEIGHT: usize = 512;
/// Tiles differ in work, so there are more of them than workers.
const SIDE: usize = 64;
const MOST_STEPS: u8 = 250;

/// The image, in each worker.
static IMAGE: OnceLock<SharedSlice<u8>> = OnceLock::new();

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Tile {
    left: usize,
    top: usize,
}

/// Runs in each worker before its first task.
fn keep_image(image: SharedSlice<u8>) {
    let _ = IMAGE.set(image);
}

/// Runs in a worker. A tile that is drawn a second time, because its worker died, has the same pixels.
fn draw(tile: Tile) {
    let image = IMAGE.get().expect("the initializer has set it");
    for y in tile.top..tile.top + SIDE {
        let line: Vec<u8> = (tile.left..tile.left + SIDE).map(|x| steps(x, y)).collect();
        image.write(y * WIDTH + tile.left, &line);
    }
}

/// How many steps it takes until the point is known to be outside of the set.
fn steps(x: usize, y: usize) -> u8 {
    let (re, im) = (
        3.0 * x as f64 / WIDTH as f64 - 2.1,
        2.0 * y as f64 / HEIGHT as f64 - 1.0,
    );
    let (mut a, mut b) = (0.0f64, 0.0f64);
    for step in 0..MOST_STEPS {
        if a * a + b * b > 4.0 {
            return step;
        }
        (a, b) = (a * a - b * b + re, 2.0 * a * b + im);
    }
    MOST_STEPS
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    procession::init();
    let image = SharedSlice::zeroed(WIDTH * HEIGHT)?;
    let pool = Pool::builder().initializer(keep_image, image.clone()).build()?;
    let tiles = (0..HEIGHT)
        .step_by(SIDE)
        .flat_map(|top| (0..WIDTH).step_by(SIDE).map(move |left| Tile { left, top }));
    let mut drawn = 0;
    for tile in pool.tasks().retries(1).map_unordered(draw, tiles)? {
        tile?;
        drawn += 1;
    }
    let image = image.to_vec();
    for line in image.chunks(WIDTH).step_by(HEIGHT / 24) {
        let shade = |steps: &u8| {
            " .:-=+*%@#"
                .chars()
                .nth(usize::from(*steps) * 9 / usize::from(MOST_STEPS))
        };
        let line: String = line.iter().step_by(WIDTH / 72).filter_map(shade).collect();
        println!("{}", line.trim_end());
    }
    println!("{drawn} tiles were drawn in place");
    if let Some(path) = std::env::args_os().nth(1) {
        let mut file = format!("P5 {WIDTH} {HEIGHT} {MOST_STEPS}\n").into_bytes();
        file.extend(&image);
        std::fs::write(path, file)?;
    }
    Ok(())
}
