//! What a send is made of, and the memory that the kernel reads while it is under way.
#![expect(unsafe_code, reason = "the message header that sendmsg reads is built of raw pointers")]

use crate::buffer::Lease;

/// Pieces of one send.
pub const CHUNKS_MAX: usize = 3;
/// Emptied vectors that a worker keeps for the next heads: the largest of them, and all together. A
/// turn takes three for each request that it serves.
const SPARE_VECTOR_BYTES_MAX: usize = 16 * 1024;
const SPARE_BYTES_MAX: usize = 1024 * 1024;
const SPARE_SENDS_MAX: usize = 64;

/// Bytes to send, owned by the send until it is done.
#[derive(Debug)]
pub enum Chunk {
    /// Bytes made here; the emptied vector is kept for reuse.
    Vector(Vec<u8>),
    /// Bytes that were received and go on untouched.
    Lease(Lease),
    /// Bytes of the program.
    Static(&'static [u8]),
}

impl Chunk {
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Vector(bytes) => bytes,
            Self::Lease(bytes) => bytes,
            Self::Static(bytes) => bytes,
        }
    }
}

impl From<Vec<u8>> for Chunk {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Vector(bytes)
    }
}

impl From<Lease> for Chunk {
    fn from(bytes: Lease) -> Self {
        Self::Lease(bytes)
    }
}

impl From<&'static [u8]> for Chunk {
    fn from(bytes: &'static [u8]) -> Self {
        Self::Static(bytes)
    }
}

/// A send under way: its chunks, and where in them it stands. Boxed, so that the addresses given to
/// the kernel stay put whatever becomes of the socket's slot.
pub(crate) struct Sending {
    chunks: [Option<Chunk>; CHUNKS_MAX],
    /// The chunk that is next, and how much of it has gone.
    chunk: usize,
    offset: usize,
    /// How much of all chunks has not gone.
    left: usize,
    parts: [libc::iovec; CHUNKS_MAX],
    message: libc::msghdr,
}

impl Sending {
    fn new() -> Box<Self> {
        Box::new(Self {
            chunks: [const { None }; CHUNKS_MAX],
            chunk: 0,
            offset: 0,
            left: 0,
            parts: [EMPTY_PART; CHUNKS_MAX],
            message: empty_message(),
        })
    }

    /// The bytes of the next chunk, if no other follows it: what a plain send takes.
    pub(crate) fn single(&self) -> Option<&[u8]> {
        let last = self.chunks[self.chunk + 1..].iter().all(Option::is_none);
        last.then(|| self.rest_of(self.chunk))
    }

    fn rest_of(&self, chunk: usize) -> &[u8] {
        let bytes = self.chunks[chunk].as_ref().map_or(&[][..], Chunk::bytes);
        if chunk == self.chunk { &bytes[self.offset..] } else { bytes }
    }

    /// All that is left to send, in order.
    pub(crate) fn remaining(&self) -> impl Iterator<Item = &[u8]> {
        (self.chunk..CHUNKS_MAX).map(|chunk| self.rest_of(chunk)).filter(|bytes| !bytes.is_empty())
    }

    /// How much is left to send.
    #[inline]
    pub(crate) fn bytes_left(&self) -> usize {
        self.left
    }

    /// The message header over all that is left, valid while `self` is neither moved out of its box
    /// nor changed.
    pub(crate) fn message(&mut self) -> *const libc::msghdr {
        let mut count = 0;
        for chunk in self.chunk..CHUNKS_MAX {
            let bytes = self.rest_of(chunk);
            if !bytes.is_empty() {
                let part = libc::iovec {
                    iov_base: bytes.as_ptr().cast_mut().cast(),
                    iov_len: bytes.len(),
                };
                self.parts[count] = part;
                count += 1;
            }
        }
        self.message.msg_iov = self.parts.as_mut_ptr();
        self.message.msg_iovlen = count as _;
        &raw const self.message
    }

    /// The kernel took `count` more bytes. True when nothing is left.
    pub(crate) fn advance(&mut self, mut count: usize) -> bool {
        debug_assert!(count <= self.left, "the kernel takes no more than it was given");
        self.left -= count;
        while self.left > 0 {
            let here = self.rest_of(self.chunk).len();
            if count < here {
                self.offset += count;
                return false;
            }
            count -= here;
            self.chunk += 1;
            self.offset = 0;
        }
        true
    }
}

const EMPTY_PART: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };

fn empty_message() -> libc::msghdr {
    // SAFETY: msghdr is plain integers and pointers, for which all-zero is a valid value: no name,
    // no parts, no control data.
    unsafe { std::mem::zeroed() }
}

/// Sends and vectors kept for reuse, so that the steady state allocates neither.
#[derive(Default)]
pub(crate) struct Spares {
    // Boxed on purpose: a spare is handed out as the box that the kernel will point into.
    #[expect(clippy::vec_box, reason = "the box itself is what is reused")]
    sends: Vec<Box<Sending>>,
    vectors: Vec<Vec<u8>>,
    /// The capacity of all of them.
    vector_bytes: usize,
}

impl Spares {
    #[inline]
    pub(crate) fn sending(&mut self, chunks: [Option<Chunk>; CHUNKS_MAX]) -> Box<Sending> {
        let mut sending = self.sends.pop().unwrap_or_else(Sending::new);
        sending.left = chunks.iter().flatten().map(|chunk| chunk.bytes().len()).sum();
        sending.chunks = chunks;
        sending.chunk = 0;
        sending.offset = 0;
        sending
    }

    /// Takes back a finished or failed send that the kernel no longer knows.
    #[inline]
    pub(crate) fn retire(&mut self, mut sending: Box<Sending>) {
        for chunk in sending.chunks.iter_mut().filter_map(Option::take) {
            self.reuse(chunk);
        }
        if self.sends.len() < SPARE_SENDS_MAX {
            self.sends.push(sending);
        }
    }

    /// Keeps what a chunk was made of, if it can be of use again.
    #[inline]
    pub(crate) fn reuse(&mut self, chunk: Chunk) {
        if let Chunk::Vector(vector) = chunk {
            self.keep(vector);
        }
    }

    #[inline]
    pub(crate) fn vector(&mut self) -> Vec<u8> {
        let vector = self.vectors.pop().unwrap_or_default();
        self.vector_bytes -= vector.capacity();
        vector
    }

    #[inline]
    pub(crate) fn keep(&mut self, mut vector: Vec<u8>) {
        let bytes = vector.capacity();
        let fits = bytes <= SPARE_VECTOR_BYTES_MAX && self.vector_bytes + bytes <= SPARE_BYTES_MAX;
        if bytes > 0 && fits {
            vector.clear();
            self.vector_bytes += bytes;
            self.vectors.push(vector);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Pool;

    fn gathered(op: &Sending) -> Vec<u8> {
        op.remaining().flatten().copied().collect()
    }

    /// What the kernel would read through the message header.
    fn through_message(op: &mut Sending) -> Vec<u8> {
        let message = op.message();
        // SAFETY: the header is valid until `op` is changed or moved, neither of which happens here.
        let message = unsafe { &*message };
        let mut bytes = Vec::new();
        for index in 0..message.msg_iovlen {
            // SAFETY: the header says how many parts there are.
            let part = unsafe { message.msg_iov.add(index) };
            // SAFETY: the parts lie in `op`, which nothing changes meanwhile.
            let part = unsafe { &*part };
            // SAFETY: each part covers bytes of a chunk that `op` owns.
            let part = unsafe { std::slice::from_raw_parts(part.iov_base.cast(), part.iov_len) };
            bytes.extend_from_slice(part);
        }
        bytes
    }

    #[test]
    fn advances_through_all_chunks_by_any_step() {
        let pool = Pool::new(4_096, 2).expect("memory");
        for step in 1..=12 {
            let mut spares = Spares::default();
            let mut lease = pool.take().expect("a free buffer");
            lease.writable()[..5].copy_from_slice(b"-two-");
            lease.truncate(5);
            let mut op = spares.sending([
                Some(Chunk::from(b"one".to_vec())),
                Some(Chunk::from(lease)),
                Some(Chunk::from(&b"three"[..])),
            ]);
            let mut rest = b"one-two-three".to_vec();
            loop {
                assert_eq!(gathered(&op), rest);
                assert_eq!(through_message(&mut op), rest);
                if let Some(single) = op.single() {
                    assert_eq!(single, rest);
                }
                let count = step.min(rest.len());
                rest.drain(..count);
                let done = op.advance(count);
                assert_eq!(done, rest.is_empty());
                if done {
                    break;
                }
            }
            spares.retire(op);
            assert_eq!(pool.leased(), 0, "a retired send returns its leases");
            assert!(spares.vector().capacity() >= 3, "and keeps its vectors");
        }
    }

    #[test]
    fn empty_chunks_are_nothing_to_send() {
        let mut spares = Spares::default();
        let empty = || Some(Chunk::from(Vec::new()));
        for chunks in [[None, None, None], [empty(), empty(), empty()], [empty(), None, empty()]] {
            let mut op = spares.sending(chunks);
            assert_eq!(gathered(&op), b"");
            assert!(op.advance(0));
        }
        let mut op = spares.sending([empty(), None, Some(Chunk::from(&b"x"[..]))]);
        assert_eq!(through_message(&mut op), b"x");
        assert!(op.advance(1));
    }

    #[test]
    fn spares_are_bounded_in_number_and_size() {
        let mut spares = Spares::default();
        spares.keep(Vec::with_capacity(SPARE_VECTOR_BYTES_MAX + 1));
        assert_eq!(spares.vector().capacity(), 0, "too large to keep");
        for _ in 0..2 * SPARE_BYTES_MAX / 4_096 {
            spares.keep(Vec::with_capacity(4_096));
        }
        assert_eq!(spares.vectors.len(), SPARE_BYTES_MAX / 4_096);
        while spares.vector().capacity() > 0 {}
        assert_eq!((spares.vectors.len(), spares.vector_bytes), (0, 0));
        let ops: Vec<_> =
            (0..2 * SPARE_SENDS_MAX).map(|_| spares.sending([None, None, None])).collect();
        for op in ops {
            spares.retire(op);
        }
        assert_eq!(spares.sends.len(), SPARE_SENDS_MAX);
    }
}
