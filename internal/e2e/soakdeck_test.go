package e2e_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
)

// soakDeck deals each of its cards once, in some order, before it deals one again: what it dealt follows from how often it was asked,
// but for its last round.
type soakDeck[T any] struct {
	cards  []T
	random *rand.Rand
	order  []int
}

func (d *soakDeck[T]) deal() T {
	if len(d.order) == 0 {
		d.order = d.random.Perm(len(d.cards))
	}
	card := d.cards[d.order[0]]
	d.order = d.order[1:]
	return card
}

// Whatever a machine has time for, each kind of disturbance has its share of it.
func TestSoakDeckIsFair(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		deck := soakDeck[int]{cards: []int{1, 2, 2, 3}, random: rand.New(rand.NewPCG(seed, 0))}
		dealt := map[int]int{}
		for range 3*len(deck.cards) + 1 {
			dealt[deck.deal()]++
		}
		assert.GreaterOrEqual(t, dealt[1], 3)
		assert.GreaterOrEqual(t, dealt[2], 6)
		assert.GreaterOrEqual(t, dealt[3], 3)
	}
}
