package staging

// buffer holds received bytes in pages of the budget, until they are in the store.
type buffer struct {
	budget *Budget
	pages  []page
	size   int64
}

// page holds bytes in data[from:to]; data[to:] is free.
type page struct {
	data     []byte
	from, to int
}

// space returns where at most most bytes can be read into without taking a page; empty when the last page is full.
func (b *buffer) space(most int64) []byte {
	if len(b.pages) == 0 {
		return nil
	}
	last := b.pages[len(b.pages)-1]
	return last.data[last.to:min(int64(len(last.data)), int64(last.to)+most)]
}

// endsEmpty reports whether the last page holds no bytes, so that what is read into it can belong to another part.
func (b *buffer) endsEmpty() bool {
	if len(b.pages) == 0 {
		return false
	}
	last := b.pages[len(b.pages)-1]
	return last.from == last.to
}

// grow adds a page that was taken from the budget.
func (b *buffer) grow(data []byte) { b.pages = append(b.pages, page{data: data}) }

// took counts n bytes that were read into space, and returns them.
func (b *buffer) took(n int) []byte {
	last := &b.pages[len(b.pages)-1]
	last.to += n
	b.size += int64(n)
	return last.data[last.to-n : last.to]
}

// split takes the bytes out. The last page, which holds none of them, stays.
func (b *buffer) split() buffer {
	last := len(b.pages) - 1
	full := buffer{budget: b.budget, pages: b.pages[:last:last], size: b.size}
	b.pages, b.size = b.pages[last:], 0
	return full
}

// each calls f with the bytes, in order.
func (b *buffer) each(f func(data []byte)) {
	for _, p := range b.pages {
		if p.from < p.to {
			f(p.data[p.from:p.to])
		}
	}
}

// release forgets the bytes and gives the pages back; but for the last one if it is being read into.
func (b *buffer) release(reading bool) {
	keep := len(b.pages)
	if reading {
		keep--
	}
	for _, p := range b.pages[:keep] {
		b.budget.give(p.data)
	}
	b.pages = b.pages[keep:]
	for i := range b.pages {
		b.pages[i].from = b.pages[i].to
	}
	b.size = 0
}
