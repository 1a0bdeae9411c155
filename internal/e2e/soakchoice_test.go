package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// soakChoice is all that a client decides about a step. It is drawn at the step's beginning, from a generator that serves nothing
// else and whatever the step will need of it: a seed gives each client the same sequence of choices, however often its requests
// have to be sent again, and whatever the others do. How many of them it gets to, and what comes of them, depends on timing: a
// layer is there or was collected, an image of another client's is there or not.
type soakChoice struct {
	takeOver   bool // an upload, one step in fifteen: there are too few steps to leave that to luck
	action     int  // else, of 96
	repository string
	tag        string
	tagged     bool          // whether a new image is put under the tag, else by its digest
	layers     []soakLayer   // of a new image, or [0] of an upload that comes to no good
	pick       uint64        // which image of those that there are
	gone       bool          // whether an image is deleted before it is pushed again
	untag      bool          // whether the tag is deleted, not moved
	pause      time.Duration // between deleting an image and pushing it again
	sent       float64       // how much of a layer is sent before its upload is abandoned
	ways       uint64        // what the ways come from in which blobs are pushed
}

// choose makes the choices of a step.
func (c *soakClient) choose() soakChoice {
	random := c.decisions
	choice := soakChoice{
		takeOver:   c.takeOvers.deal(),
		action:     random.IntN(96),
		repository: fmt.Sprintf("soak/client-%d/%d", c.number, random.IntN(soakRepositories)),
		tag:        fmt.Sprintf("tag-%d", random.IntN(4)),
		tagged:     random.IntN(2) == 0,
		pick:       random.Uint64(),
		gone:       random.IntN(2) == 0,
		untag:      random.IntN(3) == 0,
		pause:      time.Duration(random.IntN(3000)) * time.Millisecond,
		sent:       random.Float64(),
		ways:       random.Uint64(),
	}
	for range 3 {
		choice.layers = append(choice.layers, c.layers[random.IntN(len(c.layers))])
	}
	choice.layers = choice.layers[:1+random.IntN(3)]
	return choice
}

// own is the client's image that was picked; it has to have one. Which ones it has follows from its choices alone.
func (c *soakClient) own(choice soakChoice) *soakImage {
	return c.images[choice.pick%uint64(len(c.images))]
}

// soakWays are the ways that a client tries to push a blob in.
type soakWays struct {
	head, mount bool // whether it asks for it first, and whether it mounts it if somebody has it
	random      *rand.Rand
}

// waysOf are those of one of an image's blobs, at the first try or when the manifest was refused. Each has its own generator: how
// much one blob needs does not change the ways of the next.
func (c soakChoice) waysOf(try, blob int) *soakWays {
	random := rand.New(rand.NewPCG(c.ways, uint64(try)<<32|uint64(blob)))
	return &soakWays{head: random.IntN(4) > 0, mount: random.IntN(3) == 0, random: random}
}

// chunks are the sizes that an upload is sent in, but for the rest, which goes with its end; whole if it is one request.
func (w *soakWays) chunks(size int64) (chunks []int64, whole bool) {
	if w.random.IntN(3) == 0 {
		return nil, true
	}
	for size > 0 && w.random.IntN(4) > 0 {
		chunk := 1 + w.random.Int64N(size)
		chunks, size = append(chunks, chunk), size-chunk
	}
	return chunks, false
}

// However often one client had to send its requests again, and its blobs in other chunks, the other one of the same seed chooses the same.
func TestSoakSeedReplays(t *testing.T) {
	t.Parallel()
	world := &soakWorld{replicas: make([]*pushClient, 3)}
	for i := range byte(9) {
		world.layers = append(world.layers, soakLayer{content: []byte{i}})
	}
	lucky, unlucky := newSoakClient(world, 7, 3), newSoakClient(world, 7, 3)
	actions := map[int]bool{}
	for range 1000 {
		choice := lucky.choose()
		require.Equal(t, choice, unlucky.choose())
		actions[choice.action] = true
		for try := range unlucky.chances.IntN(5) {
			unlucky.replica()
			unlucky.chances.IntN(100)
			choice.waysOf(try, 0).chunks(1 << 20)
		}
		wanted := choice.waysOf(1, 2)
		require.Equal(t, wanted, choice.waysOf(1, 2))
	}
	assert.Len(t, actions, 96, "actions that were chosen")
	assert.NotEqual(t, lucky.choose(), newSoakClient(world, 7, 4).choose(), "another client's choices")
}
