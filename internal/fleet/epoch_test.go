package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/missionopsai/foundry/internal/fleet/member"
	"github.com/missionopsai/foundry/internal/fleet/member/membertest"
)

// written is what stands in the register that leaders write.
type written struct {
	Epoch int64  `json:"epoch"`
	Node  string `json:"node"`
	N     int    `json:"n"`
}

// act is one thing that was done to the register, and what came of it.
type act struct {
	read    bool
	put     written
	refused bool
	unknown bool // an error that does not say whether it was done
}

// register is what leaders write by turns: a write of an epoch may only follow
// writes of that epoch or an earlier one.
var register = porcupine.Model{
	Init: func() any { return written{} },
	Step: func(state, input, output any) (bool, any) {
		was, in, out := state.(written), input.(act), output.(act)
		switch {
		case in.read:
			return out.put == was, was
		case out.refused:
			return true, was
		case in.put.Epoch < was.Epoch:
			return out.unknown, was // an unknown one may never have been done
		}
		return true, in.put
	},
}

// history is everything that was done, with when it began and ended.
type history struct {
	mu    sync.Mutex
	began time.Time
	acts  []porcupine.Operation
	at    map[int64]written // by revision
}

func (h *history) do(client int, in act, f func() (int64, act)) act {
	call := time.Since(h.began).Nanoseconds()
	revision, out := f()
	done := time.Since(h.began).Nanoseconds()
	if out.unknown {
		if in.read {
			return out
		}
		done = math.MaxInt64
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.acts = append(h.acts, porcupine.Operation{ClientId: client, Input: in, Output: out, Call: call, Return: done})
	if revision > 0 && !in.read {
		h.at[revision] = in.put
	}
	return out
}

// TestAtMostOneLeaderWritesInAnEpochAndNoneAfterALaterOne has three members
// lead by turns. Who led goes on writing with its old term as long as it can;
// one dies in between.
func TestAtMostOneLeaderWritesInAnEpochAndNoneAfterALaterOne(t *testing.T) {
	t.Parallel()
	const epochs, path, election = 9, "test/register", "test/election"
	f := membertest.Start(t, 3)
	h := &history{began: time.Now(), at: map[int64]written{}}
	ctx, cancel := context.WithTimeout(context.Background(), 2*membertest.Patience)
	defer cancel()
	var all sync.WaitGroup
	var won, clients, refused atomic.Int64
	half, enough := make(chan struct{}), make(chan struct{})

	write := func(client int, term *member.Term, node string, n int) act {
		in := act{put: written{term.Epoch(), node, n}}
		return h.do(client, in, func() (int64, act) {
			one, cancel := context.WithTimeout(ctx, 3*time.Second)
			defer cancel()
			revision, err := term.Put(one, path, in.put)
			if errors.Is(err, member.ErrNotLeader) {
				refused.Add(1)
				return 0, act{refused: true}
			}
			return revision, act{unknown: err != nil}
		})
	}
	for i, m := range f.Members {
		life, end := context.WithCancel(ctx)
		defer end()
		r := rand.New(rand.NewPCG(uint64(i), 9))
		all.Go(func() {
			for life.Err() == nil {
				term, err := m.LeadFor(life, election, time.Second)
				if err != nil {
					continue
				}
				switch won.Add(1) {
				case epochs / 2:
					close(half)
				case epochs:
					close(enough)
				}
				// The ghost holds on to the term until it is refused, whether
				// or not it has been given up meanwhile.
				all.Go(func() {
					me := int(clients.Add(1))
					for n := 100; life.Err() == nil; n++ {
						if out := write(me, term, m.Name(), n); out.refused || out.unknown {
							return
						}
					}
				})
				me := int(clients.Add(1))
				for n := range 2 + r.IntN(8) {
					write(me, term, m.Name(), n)
				}
				if r.IntN(3) > 0 {
					_ = term.Resign(life)
				} else {
					_ = term.Lease().End(life)
				}
			}
		})
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 10))
			me := int(clients.Add(1))
			for life.Err() == nil {
				h.do(me, act{read: true}, func() (int64, act) {
					one, cancel := context.WithTimeout(life, 3*time.Second)
					defer cancel()
					var got written
					e, err := m.Store().Get(one, path)
					if err == nil {
						err = e.Decode(&got)
					}
					return 0, act{put: got, unknown: err != nil && !errors.Is(err, member.ErrAbsent)}
				})
				select {
				case <-life.Done():
				case <-time.After(time.Duration(1+r.IntN(20)) * time.Millisecond):
				}
			}
		})
		if i == 2 {
			all.Go(func() {
				select {
				case <-half:
				case <-ctx.Done():
				}
				end()
				m.Abandon()
				f.Members[2] = nil
			})
		}
	}
	select {
	case <-enough:
	case <-ctx.Done():
		t.Fatalf("only %d epochs", won.Load())
	}
	cancel()
	all.Wait()
	h.check(t)
	if refused.Load() == 0 {
		t.Error("no old term was refused: this test did not test")
	}
	t.Logf("%d acts, %d epochs, %d writes of old terms refused", len(h.acts), won.Load(), refused.Load())
}

func (h *history) check(t *testing.T) {
	t.Helper()
	var revisions []int64
	for r := range h.at {
		revisions = append(revisions, r)
	}
	slices.Sort(revisions)
	by, last := map[int64]string{}, int64(0)
	for _, r := range revisions {
		w := h.at[r]
		if w.Epoch < last {
			t.Errorf("at revision %d %s wrote in epoch %d, after epoch %d", r, w.Node, w.Epoch, last)
		}
		if was := by[w.Epoch]; was != "" && was != w.Node {
			t.Errorf("%s and %s both wrote in epoch %d", was, w.Node, w.Epoch)
		}
		by[w.Epoch], last = w.Node, w.Epoch
	}
	if len(by) < 3 {
		t.Errorf("only %d epochs have written", len(by))
	}
	switch result := porcupine.CheckOperationsTimeout(register, h.acts, time.Minute); result {
	case porcupine.Ok:
	case porcupine.Unknown:
		t.Log("the history is too long to be checked in a minute")
	default:
		t.Errorf("the history is %s: no order of its acts explains what was read", result)
	}
}

func TestTheRegisterRefusesHistoriesThatCannotBe(t *testing.T) {
	t.Parallel()
	write := func(epoch int64, n int, call, done int64) porcupine.Operation {
		in := act{put: written{epoch, fmt.Sprint(epoch), n}}
		return porcupine.Operation{Input: in, Output: act{}, Call: call, Return: done}
	}
	read := func(epoch int64, n int, call, done int64) porcupine.Operation {
		return porcupine.Operation{Input: act{read: true}, Output: act{put: written{epoch, fmt.Sprint(epoch), n}}, Call: call, Return: done}
	}
	for name, bad := range map[string][]porcupine.Operation{
		"an old epoch writes after a newer one":   {write(5, 1, 0, 1), write(4, 1, 2, 3)},
		"what was overwritten is read":            {write(4, 1, 0, 1), write(5, 1, 2, 3), read(4, 1, 4, 5)},
		"two epochs write by turns, and are seen": {write(4, 1, 0, 9), write(5, 1, 0, 9), read(5, 1, 1, 2), read(4, 1, 3, 4)},
	} {
		if porcupine.CheckOperations(register, bad) {
			t.Errorf("%s, and nobody minds", name)
		}
	}
}
