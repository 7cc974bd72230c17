//! The conversions that cargo features add.

use procession::{Block, Queue};

procession::init_before_main!();

#[test]
fn vectors_and_slices_become_blocks() {
    let block = Block::try_from(vec![1u16, 2, 3]).unwrap();
    assert_eq!(Block::try_from(&[1u16, 2, 3][..]).unwrap(), block);
    let queue = Queue::new().unwrap();
    queue.put(&block).unwrap();
    assert_eq!(queue.get().unwrap(), block);
}

#[cfg(feature = "bytes")]
#[test]
fn bytes_are_the_memory_of_the_block_and_keep_it() {
    let block = Block::try_from(vec![1u32, 2, 3]).unwrap();
    let address = block.as_ptr().cast::<u8>();
    let bytes = bytes::Bytes::from(block);
    assert_eq!((bytes.as_ptr(), bytes.len(), bytes[4]), (address, 12, 2));
}

#[cfg(feature = "arrow")]
#[test]
fn arrow_buffers_are_the_memory_of_the_block_and_keep_it() {
    let block = Block::try_from(vec![1.5f64; 1000]).unwrap();
    let address = block.as_ptr();
    let buffer = arrow_buffer::ScalarBuffer::from(block);
    assert_eq!((buffer.as_ptr(), buffer.len(), buffer[999]), (address, 1000, 1.5));
}

#[cfg(feature = "ndarray")]
#[test]
fn views_have_the_shape_and_the_memory_of_the_array() {
    use procession::{Array, Value};

    let grid = ndarray::Array::from_shape_fn((30, 40), |(i, j)| (i * 100 + j) as f32);
    let sent = Array::from_ndarray(&grid.t()).unwrap();
    let queue = Queue::<Value>::new().unwrap();
    queue.put(&Value::List(vec![sent.clone().into()])).unwrap();
    let Value::List(got) = queue.get().unwrap() else {
        panic!("no list")
    };
    let got = got[0].as_array().unwrap();
    let view = got.view::<f32>().unwrap();
    assert_eq!(view, grid.t().into_dyn());
    assert_eq!(view.as_ptr(), sent.view::<f32>().unwrap().as_ptr());
    assert!(got.view::<f64>().is_err());
    assert_eq!(got.block::<f32>().unwrap().view().len(), 1200);
}

#[cfg(feature = "num-bigint")]
#[test]
fn integers_of_any_size_can_be_computed_with() {
    use num_bigint::BigInt;
    use procession::Value;

    for shift in [0u32, 63, 64, 200] {
        for sign in [1, -1] {
            let big = BigInt::from(sign) << shift;
            let value = Value::from(&big);
            let queue = Queue::<Value>::new().unwrap();
            queue.put(&value).unwrap();
            assert_eq!(BigInt::try_from(&queue.get().unwrap()).unwrap(), big);
        }
    }
    assert!(BigInt::try_from(&Value::from("1")).is_err());
}

#[cfg(feature = "half")]
#[test]
fn numbers_of_16_bits_are_elements() {
    use half::f16;
    use procession::{Array, Value};

    let block = Block::try_from(vec![f16::from_f32(1.5); 3000]).unwrap();
    let queue = Queue::<Value>::new().unwrap();
    queue.put(&Value::from(Array::from(block.clone()))).unwrap();
    let halves = Queue::<Block<f16>>::try_from(&Value::from(&queue)).unwrap();
    assert_eq!(halves.get().unwrap(), block);
    queue.put(&Value::from(Array::from(block))).unwrap();
    let floats = Queue::<Vec<f32>>::try_from(&Value::from(&queue)).unwrap();
    assert_eq!(floats.get().unwrap(), [1.5; 3000]);
}
