package staging

// buffer holds received bytes in pages of the budget, until they are in the store.
type buffer struct {
	budget *Budget
	pages  []page
	size   int64

	turn turn
	next [][]byte // the pages of the turn that are not in use yet; nil ones are still to be made
}

// page holds bytes in data[from:to]; data[to:] is free.
type page struct {
	data     []byte
	from, to int
}

// space returns where at most most bytes can be read into without another page; empty when the last page is full.
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

// begin begins a turn of these pages.
func (b *buffer) begin(pages [][]byte, t turn) { b.next, b.turn = pages, t }

// inTurn reports whether the buffer may hold more than a few pages.
func (b *buffer) inTurn() bool { return b.turn.size > 0 }

// growNext adds the next page of the turn, if there is one.
func (b *buffer) growNext() bool {
	if len(b.next) == 0 {
		return false
	}
	b.grow(made(b.next[0]))
	b.next = b.next[1:]
	return true
}

// took counts n bytes that were read into space, and returns them.
func (b *buffer) took(n int) []byte {
	last := &b.pages[len(b.pages)-1]
	last.to += n
	b.size += int64(n)
	return last.data[last.to-n : last.to]
}

// readAt copies bytes from an offset that it holds, up to the end of a page. All pages before the last are full.
func (b *buffer) readAt(p []byte, offset int64) int {
	at := b.pages[offset/pageSize]
	return copy(p, at.data[offset%pageSize:at.to])
}

// split takes the bytes out, and the turn with them. A last page that holds none of them stays.
func (b *buffer) split() buffer {
	full := *b
	last := len(b.pages)
	if b.endsEmpty() {
		last--
	}
	full.pages = b.pages[:last:last]
	*b = buffer{budget: b.budget, pages: b.pages[last:]}
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

// release forgets the bytes, and gives the pages and the turn back; but for the last page if it is being read into.
func (b *buffer) release(reading bool) {
	keep := len(b.pages)
	if reading {
		keep--
	}
	pages := b.next
	for _, p := range b.pages[:keep] {
		pages = append(pages, p.data)
	}
	if len(pages) > 0 || b.inTurn() {
		b.budget.give(pages, b.turn)
	}
	*b = buffer{budget: b.budget, pages: b.pages[keep:]}
	for i := range b.pages {
		b.pages[i].from = b.pages[i].to
	}
}

// endTurn gives back what the turn has left. What is held already stays until it is released.
func (b *buffer) endTurn() {
	if len(b.next) > 0 {
		b.budget.give(b.next, turn{})
		b.next = nil
	}
}
