//! A table whose free parts go back: slots in pages of their own, so that whoever stays behind after
//! a burst keeps a page alive and not everything below it.
//!
//! An index is good for as long as its slot is taken. The table gives back only pages in which no
//! slot is; what was in them is shown to the caller first, for a later slot of the same index may
//! have to differ from it.

/// Slots of a page. Pages are made whole: few enough that a quiet process does not notice, enough
/// that ten thousand sockets are a few hundred blocks.
const PAGE_SLOTS: usize = 32;

pub(crate) struct Pages<T> {
    /// `None`: it was given back.
    pages: Vec<Option<Box<[T; PAGE_SLOTS]>>>,
    free: Vec<u32>,
    gone: Vec<u32>,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self { pages: Vec::new(), free: Vec::new(), gone: Vec::new() }
    }
}

impl<T> Pages<T> {
    /// Takes a free slot, as its last user left it or as `make` makes it.
    pub(crate) fn take(&mut self, make: impl FnMut() -> T) -> u32 {
        self.free.pop().unwrap_or_else(|| self.add_page(make))
    }

    #[cold]
    fn add_page(&mut self, mut make: impl FnMut() -> T) -> u32 {
        let page = self.gone.pop().unwrap_or_else(|| {
            self.pages.push(None);
            self.pages.len() as u32 - 1
        });
        self.pages[page as usize] = Some(Box::new(std::array::from_fn(|_| make())));
        let first = page * PAGE_SLOTS as u32;
        self.free.extend((first + 1..first + PAGE_SLOTS as u32).rev());
        first
    }

    /// Frees a slot that was taken; what is in it stays there.
    pub(crate) fn free(&mut self, index: u32) {
        self.free.push(index);
    }

    /// The slot of `index`.
    ///
    /// # Panics
    /// If its page is gone.
    #[inline]
    pub(crate) fn at(&mut self, index: u32) -> &mut T {
        let index = index as usize;
        let page = self.pages[index / PAGE_SLOTS].as_mut().expect("what is taken keeps its page");
        &mut page[index % PAGE_SLOTS]
    }

    /// The slot of `index`, unless its page is gone.
    pub(crate) fn find(&mut self, index: u32) -> Option<&mut T> {
        let index = index as usize;
        let page = self.pages.get_mut(index / PAGE_SLOTS)?.as_mut()?;
        Some(&mut page[index % PAGE_SLOTS])
    }

    /// Slots that are taken.
    pub(crate) fn len(&self) -> usize {
        (self.pages.len() - self.gone.len()) * PAGE_SLOTS - self.free.len()
    }

    /// Gives back every page in which no slot is taken, after `last_look` at what was in it.
    pub(crate) fn shrink(&mut self, mut last_look: impl FnMut(&T)) {
        let mut taken = vec![PAGE_SLOTS; self.pages.len()];
        for &index in &self.free {
            taken[index as usize / PAGE_SLOTS] -= 1;
        }
        for (page, taken) in self.pages.iter_mut().zip(&taken) {
            if *taken == 0 {
                page.take().iter().flat_map(|slots| slots.iter()).for_each(&mut last_look);
            }
        }
        while self.pages.pop_if(|page| page.is_none()).is_some() {}
        self.pages.shrink_to_fit();
        let gone = self.pages.iter().enumerate().filter(|(_, page)| page.is_none());
        self.gone = gone.map(|(page, _)| page as u32).rev().collect();
        self.free.retain(|index| {
            self.pages.get(*index as usize / PAGE_SLOTS).is_some_and(Option::is_some)
        });
        // The lowest are taken first from now on, lest the next few keep as many pages alive.
        self.free.sort_unstable_by(|one, other| other.cmp(one));
        self.free.shrink_to_fit();
    }

    /// Slots for which there is memory.
    #[cfg(test)]
    pub(crate) fn room(&self) -> usize {
        (self.pages.len() - self.gone.len()) * PAGE_SLOTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table_of(count: u32) -> Pages<u32> {
        let mut table = Pages::default();
        for index in 0..count {
            assert_eq!(table.take(|| 0), index, "a new table fills from its start");
            *table.at(index) = index;
        }
        table
    }

    #[test]
    fn one_that_stays_keeps_one_page_only() {
        for kept in [0, 31, 32, 1_000, 4_095] {
            let mut table = table_of(4_096);
            for index in (0..4_096).filter(|index| *index != kept) {
                table.free(index);
            }
            let mut seen = 0;
            table.shrink(|_| seen += 1);
            assert_eq!((table.len(), table.room(), seen), (1, 32, 4_096 - 32), "kept {kept}");
            assert_eq!(*table.at(kept), kept);
            assert!(kept < 32 || table.find(0).is_none(), "its page is gone");
            assert!(table.find(9_999).is_none());
        }
    }

    #[test]
    fn takes_what_was_given_back_anew_and_never_twice() {
        let mut table = table_of(320);
        for index in (0..320).filter(|index| index % 100 != 50) {
            table.free(index);
        }
        table.shrink(|_| {});
        assert_eq!((table.len(), table.room()), (3, 96));
        let mut taken: Vec<u32> = (0..317).map(|_| table.take(|| 7)).collect();
        assert_eq!(table.len(), 320);
        for kept in [50, 150, 250] {
            assert_eq!(*table.at(kept), kept, "nobody else took it");
            taken.push(kept);
        }
        taken.sort_unstable();
        assert_eq!(taken, (0..320).collect::<Vec<_>>(), "and it grew no larger than it was");
    }

    #[test]
    fn an_empty_table_gives_back_everything() {
        let mut table = table_of(100);
        (0..100).for_each(|index| table.free(index));
        table.shrink(|_| {});
        assert_eq!((table.len(), table.room(), table.pages.capacity()), (0, 0, 0));
        assert_eq!(table.take(|| 0), 0);
    }
}
