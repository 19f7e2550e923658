//! A receive buffer for a runtime that reads into a `&mut [u8]`, which glommio does.

use crate::BUFFER_BYTES;

/// [`BUFFER_BYTES`] bytes, zeroed once, of which the first ones are filled.
pub struct Buffer {
    memory: Vec<u8>,
    filled: usize,
}

impl Default for Buffer {
    fn default() -> Self {
        Self { memory: vec![0; BUFFER_BYTES], filled: 0 }
    }
}

impl Buffer {
    /// What can still be read into.
    pub fn free(&mut self) -> &mut [u8] {
        &mut self.memory[self.filled..]
    }

    /// `count` bytes were read into [`Buffer::free`].
    pub fn fill(&mut self, count: usize) {
        self.filled += count;
        debug_assert!(self.filled <= BUFFER_BYTES, "no more than was free");
    }

    /// The filled bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[..self.filled]
    }

    /// How many bytes are filled.
    pub fn len(&self) -> usize {
        self.filled
    }

    /// No byte is filled.
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Forgets the first `count` bytes; what follows moves to the front.
    pub fn consume(&mut self, count: usize) {
        self.memory.copy_within(count..self.filled, 0);
        self.filled -= count;
    }

    /// Up to `left` bytes at the front, to be read into and sent on without being filled.
    pub fn window(&mut self, left: u64) -> &mut [u8] {
        let length = left.min(BUFFER_BYTES as u64) as usize;
        &mut self.memory[..length]
    }
}
