//! Blocks and arrays as the types of other crates, each with a feature of its own. Nothing is copied unless it is said.

#[cfg(feature = "bytes")]
impl<T: crate::Pod + Send + Sync> From<crate::Block<T>> for bytes::Bytes {
    /// Returns the bytes of the block, in place. They keep the memory.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let block = procession::Block::from_slice(&[1u8, 2, 3])?;
    /// let bytes = bytes::Bytes::from(block.clone());
    /// assert_eq!(bytes.slice(1..), [2, 3][..]);
    /// assert_eq!(bytes.as_ptr(), block.as_ptr());
    /// # Ok(())
    /// # }
    /// ```
    fn from(block: crate::Block<T>) -> Self {
        bytes::Bytes::from_owner(block.into_bytes())
    }
}

#[cfg(feature = "arrow")]
impl<T: crate::Pod + arrow_buffer::ArrowNativeType> From<crate::Block<T>> for arrow_buffer::ScalarBuffer<T> {
    /// Returns the elements as a buffer of Arrow, in place. The buffer keeps the memory.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let block = procession::Block::from_slice(&[1.5f64, 2.5])?;
    /// let buffer = arrow_buffer::ScalarBuffer::from(block.clone());
    /// assert_eq!(buffer[1], 2.5);
    /// assert_eq!(buffer.as_ptr(), block.as_ptr());
    /// # Ok(())
    /// # }
    /// ```
    fn from(block: crate::Block<T>) -> Self {
        let len = block.len();
        let bytes = bytes::Bytes::from_owner(block.into_bytes());
        arrow_buffer::ScalarBuffer::new(arrow_buffer::Buffer::from(bytes), 0, len)
    }
}

#[cfg(feature = "ndarray")]
mod with_ndarray {
    use crate::array::{Array, ArrayError, Element};
    use crate::error::FamilyError;
    use crate::{Block, BlockMut, Pod};
    use ndarray::{ArrayBase, ArrayView1, ArrayViewD, Data, Dimension, IxDyn, ShapeBuilder};

    impl<T: Pod> Block<T> {
        /// Returns a view of the elements.
        #[must_use]
        pub fn view(&self) -> ArrayView1<'_, T> {
            ArrayView1::from(&**self)
        }
    }

    impl Array {
        /// Returns a view of the array, with its dimensions and in its order.
        ///
        /// # Errors
        /// The elements are of another type.
        ///
        /// ```
        /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
        /// use ndarray::array;
        ///
        /// let sent = procession::Array::from_ndarray(&array![[1.0, 2.0], [3.0, 4.0]])?;
        /// assert_eq!(sent.view::<f64>()?.sum(), 10.0);
        /// # Ok(())
        /// # }
        /// ```
        pub fn view<T: Pod>(&self) -> Result<ArrayViewD<'_, T>, ArrayError> {
            let shape = IxDyn(self.shape()).set_f(self.is_fortran());
            let view = ArrayViewD::from_shape(shape, self.as_slice()?);
            view.map_err(|e| ArrayError::new(e.to_string()))
        }

        /// Copies an array into family memory, in C order.
        ///
        /// # Errors
        /// Family memory is exhausted.
        pub fn from_ndarray<T: Element, S: Data<Elem = T>, D: Dimension>(
            array: &ArrayBase<S, D>,
        ) -> Result<Array, FamilyError> {
            let mut block = BlockMut::zeroed(array.len())?;
            for (place, element) in block.iter_mut().zip(array.iter()) {
                *place = *element;
            }
            Ok(Array::shaped(block.freeze(), array.shape().to_vec()))
        }
    }
}
