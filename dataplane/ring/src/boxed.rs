//! Boxes for what comes and goes with each request, futures and values, in memory that is used again.
//!
//! A turn begins as many requests as clients have asked, and ends as many; of one size of block the
//! C library keeps seven at hand, and all others take the long way through its bins.
#![expect(unsafe_code, reason = "a value is put into memory that had another before")]

use std::cell::RefCell;
use std::future::Future;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll};

/// The largest value that fits.
pub const BOXED_BYTES_MAX: usize = size_of::<Block>();
/// Free blocks that a thread keeps.
const BLOCKS_MAX: usize = 256;

type Block = MaybeUninit<[u128; 80]>;

thread_local! {
    #[expect(clippy::vec_box, reason = "the box itself is what is used again")]
    static FREE: RefCell<Vec<Box<Block>>> = const { RefCell::new(Vec::new()) };
}

/// A value in a box of its own. Its memory goes to the next one when it is dropped.
pub struct Boxed<T> {
    /// A block from `Box::into_raw` with an initialised value at its start.
    block: NonNull<Block>,
    owned: PhantomData<T>,
}

/// Room for a value of up to [`BOXED_BYTES_MAX`] bytes. What is made once there is room for it is made there,
/// and not moved: a request's future is more than a kilobyte, and has but two words in it at first.
#[inline]
#[must_use]
pub fn room<T>() -> Room<T> {
    const { assert!(size_of::<T>() <= BOXED_BYTES_MAX && align_of::<T>() <= align_of::<Block>()) };
    let block = FREE.with_borrow_mut(Vec::pop).unwrap_or_else(|| Box::new(Block::uninit()));
    Room { block: GivenUp(NonNull::from(Box::leak(block))), meant_for: PhantomData }
}

/// A box that nothing is in.
#[derive(Debug)]
pub struct Room<T> {
    block: GivenUp,
    meant_for: PhantomData<fn() -> T>,
}

impl<T> Room<T> {
    /// Puts the value there. Always inline: a call would have it made elsewhere.
    #[inline(always)]
    #[must_use]
    pub fn put(self, value: T) -> Boxed<T> {
        let block = ManuallyDrop::new(self.block).0;
        // SAFETY: the block is ours alone, large enough and aligned, as [`room`] asserts; what was in it is gone.
        unsafe { block.cast::<T>().write(value) };
        Boxed { block, owned: PhantomData }
    }
}

/// A future is pinned where it is, so it is lent to nobody who could move it out.
impl<T: Unpin> Deref for Boxed<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: `put` put the value there; it is dropped with this handle, which is borrowed.
        unsafe { self.block.cast::<T>().as_ref() }
    }
}

impl<T: Unpin> DerefMut for Boxed<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and nobody else has this handle. What may be moved, may be moved out.
        unsafe { self.block.cast::<T>().as_mut() }
    }
}

impl<F: Future> Future for Boxed<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: `put` put the future there; it is dropped with this handle, which is borrowed.
        let future = unsafe { self.block.cast::<F>().as_mut() };
        // SAFETY: nothing moves it: it stays in its block until it is dropped there.
        unsafe { Pin::new_unchecked(future) }.poll(cx)
    }
}

impl<T> Drop for Boxed<T> {
    #[inline]
    fn drop(&mut self) {
        // Dropped last, also when the value's destructor panics.
        let _given_up = GivenUp(self.block);
        // SAFETY: `put` put the value there; nobody else drops it, and this happens once.
        unsafe { self.block.cast::<T>().drop_in_place() };
    }
}

/// A block without a value in it.
#[derive(Debug)]
struct GivenUp(NonNull<Block>);

impl Drop for GivenUp {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: it came from a box in `room`, and nobody uses it any more.
        let block = unsafe { Box::from_raw(self.0.as_ptr()) };
        // Where the thread is ending, it goes back to the allocator.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < BLOCKS_MAX {
                free.push(block);
            }
        });
    }
}

/// Gives back the memory of this thread's free blocks.
pub(crate) fn shrink() {
    drop(FREE.take());
}

impl<T> std::fmt::Debug for Boxed<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Boxed").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::pin::pin;
    use std::rc::Rc;
    use std::task::Waker;

    use super::*;

    fn free() -> usize {
        FREE.with_borrow(Vec::len)
    }

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_future_keeps_its_place_and_its_memory_is_used_again() {
        let owned = Rc::new(());
        for _ in 0..3 {
            let kept = owned.clone();
            let mut future = pin!(room().put(async move {
                let value = 7;
                let borrowed = &value;
                std::future::poll_fn(|cx| {
                    cx.waker().wake_by_ref();
                    if Rc::strong_count(&kept) > 2 { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
                *borrowed
            }));
            assert_eq!(poll(future.as_mut()), Poll::Pending);
            let _third = owned.clone();
            assert_eq!(poll(future.as_mut()), Poll::Ready(7));
        }
        assert_eq!((Rc::strong_count(&owned), free()), (1, 1));
        shrink();
        assert_eq!(free(), 0);
    }

    #[test]
    fn a_value_is_read_and_written_where_it_is() {
        let owned = Rc::new(());
        let mut value = room().put((vec![1, 2], owned.clone()));
        value.0.push(3);
        assert_eq!(value.0, [1, 2, 3]);
        drop(value);
        assert_eq!((Rc::strong_count(&owned), free()), (1, 1));
    }

    #[test]
    fn room_that_nothing_is_put_into_is_used_again() {
        drop(room::<Vec<u8>>());
        assert_eq!(free(), 1);
        let held = room::<u8>().put(7);
        assert_eq!((*held, free()), (7, 0));
    }

    #[test]
    fn a_destructor_that_panics_leaks_nothing() {
        struct Panics;
        impl Drop for Panics {
            fn drop(&mut self) {
                panic!("in a destructor");
            }
        }
        let held = Panics;
        let future = room().put(async move {
            let _held = held;
        });
        assert!(catch_unwind(AssertUnwindSafe(|| drop(future))).is_err());
        assert_eq!(free(), 1);
    }

    #[test]
    fn no_more_than_a_bounded_number_is_kept() {
        let many: Vec<_> =
            (0..2 * BLOCKS_MAX).map(|_| room().put(std::future::ready(()))).collect();
        drop(many);
        assert_eq!(free(), BLOCKS_MAX);
    }
}
