package ledger

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

// Account is what one API key may still do: its own limits and budgets, and
// its organisation's. It is safe for concurrent use and stays valid when
// budgets change.
type Account struct {
	budgets  *Budgets
	sets     [2]*potSet // the organisation's, then the key's
	requests rate
	tokens   rate
}

// maxPots is one budget of each period for the organisation and for the key.
const maxPots = 6

// Reservation is what an admitted request holds until it is settled. Copies
// are the same reservation: it is settled once, whoever does it first.
type Reservation struct {
	slot *slot
	turn uint64
	nano int64
}

// slot is the memory of a reservation, used again and again. turn tells the
// reservation that holds it from all that held it before.
type slot struct {
	turn    atomic.Uint64
	account *Account
	nano    int64
	tokens  int64
	n       int
	windows [maxPots]*window
}

var slots = sync.Pool{New: func() any { return new(slot) }}

// Admit reserves what a request may cost at worst, in nano-units of the
// budget's currency and in tokens. It waits for nothing and takes no lock.
//
// The error is a *problem.Error: RateLimited for the limits per minute, or
// Exhausted, naming the budget and when it starts again. A request that costs
// nothing passes whatever is spent.
func (a *Account) Admit(now time.Time, worstNano, worstTokens int64) (Reservation, error) {
	t, steady := now.UnixNano(), a.budgets.steady(now)
	worstNano, worstTokens = max(worstNano, 0), max(worstTokens, 0)
	if wait, ok := a.requests.take(steady, 1); !ok {
		return Reservation{}, requestsError(a.requests.limit.Load(), wait)
	}
	if wait, ok := a.tokens.take(steady, worstTokens); !ok {
		a.requests.give(1)
		return Reservation{}, tokensError(a.tokens.limit.Load(), worstTokens, wait)
	}
	s := slots.Get().(*slot)
	s.account, s.nano, s.tokens, s.n = a, worstNano, worstTokens, 0
	if worstNano > 0 {
		if err := a.reserve(s, t); err != nil {
			s.release()
			a.tokens.give(worstTokens)
			a.requests.give(1)
			return Reservation{}, err
		}
	}
	return Reservation{slot: s, turn: s.turn.Load(), nano: worstNano}, nil
}

// reserve takes s.nano from every budget that applies, or from none.
func (a *Account) reserve(s *slot, t int64) error {
	if !a.budgets.loaded.Load() {
		return errUnloaded()
	}
	for _, set := range a.sets {
		pots := set.pots.Load()
		if pots == nil {
			continue
		}
		for _, p := range *pots {
			w := p.at(t)
			if !w.take(s.nano) || s.n == maxPots {
				return a.refuse(s, p, w, t)
			}
			s.windows[s.n] = w
			s.n++
			if w.balance.Load() < w.low.Load() {
				a.budgets.ask(w)
			}
		}
	}
	return nil
}

// refuse undoes a half-made reservation and says why.
func (a *Account) refuse(s *slot, p *pot, w *window, t int64) error {
	for _, taken := range s.windows[:s.n] {
		taken.balance.Add(s.nano)
	}
	if w.want.Add(s.nano) < 0 {
		w.want.Store(math.MaxInt64)
	}
	err := spentError(p.def.Load(), w, s.nano, t)
	if errors.Is(err, errLeaseShort) {
		a.budgets.ask(w)
	} else {
		w.asked.Store(true) // the next tick is soon enough: there may be more by then
	}
	return err
}

// AdmitWait is Admit, except that it waits while the database is asked for a
// larger lease, at most for limit. Only a request that asks for more than the
// node has at hand ever waits.
func (a *Account) AdmitWait(ctx context.Context, now time.Time, limit time.Duration, worstNano, worstTokens int64) (Reservation, error) {
	round := *a.budgets.round.Load()
	r, err := a.Admit(now, worstNano, worstTokens)
	if !errors.Is(err, errLeaseShort) {
		return r, err
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	// The first round to end may have begun before this request asked.
	for range 2 {
		select {
		case <-round:
		case <-timer.C:
			return r, err
		case <-ctx.Done():
			return r, err
		}
		round = *a.budgets.round.Load()
		if r, err = a.Admit(now, worstNano, worstTokens); !errors.Is(err, errLeaseShort) {
			return r, err
		}
	}
	return r, err
}

// Settle says what the request cost in the end and gives back the rest. Only
// the first call does anything. A cost above what was reserved is taken too,
// so that it counts against what comes next.
func (r Reservation) Settle(costNano, tokens int64) {
	s := r.slot
	if s == nil || !s.turn.CompareAndSwap(r.turn, r.turn+1) {
		return
	}
	costNano, tokens = max(costNano, 0), max(tokens, 0)
	for _, w := range s.windows[:s.n] {
		w.balance.Add(s.nano - costNano)
		w.settled.Add(costNano)
	}
	s.account.tokens.give(s.tokens - tokens)
	s.release()
}

// Nano returns the amount that was reserved.
func (r Reservation) Nano() int64 { return r.nano }

func (s *slot) release() {
	s.account = nil
	clear(s.windows[:s.n])
	slots.Put(s)
}

// errLeaseShort marks a refusal that a larger lease may turn into an admission.
var errLeaseShort = errors.New("the lease is too small")

func errUnloaded() error {
	return problem.New(problem.Unavailable, "budgets-unknown", "It is not known yet which budgets apply.").
		WithMend("Try again in a moment.").WithRetry(time.Second)
}

func requestsError(limit int64, wait time.Duration) error {
	return problem.New(problem.RateLimited, "requests-per-minute",
		"This key may make "+strconv.FormatInt(limit, 10)+" requests per minute, and has.").
		WithMend("Wait and try again, or ask for a higher limit.").WithRetry(wait)
}

func tokensError(limit, asked int64, wait time.Duration) error {
	e := problem.New(problem.RateLimited, "tokens-per-minute", fmt.Sprintf(
		"This key may use %d tokens per minute, and this request could use %d.", limit, asked))
	if wait == never {
		return e.WithMend("Ask for a shorter answer with max_tokens, send less, or ask for a higher limit: waiting does not help.")
	}
	return e.WithMend("Wait and try again, or ask for a shorter answer with max_tokens.").WithRetry(wait)
}

// spentError names the budget, what is left and when it starts again.
func spentError(def *Budget, w *window, worst, t int64) error {
	left, balance := w.left.Load(), max(w.balance.Load(), 0)
	if left < 0 || worst <= saturatingAdd(left, balance) {
		return problem.New(problem.Exhausted, "budget-lease-spent", fmt.Sprintf(
			"What this node may spend of the %s is used up for the moment.", def.describe())).
			WithMend("Try again shortly: the node asks for more.").WithRetry(time.Second).Wrap(errLeaseShort)
	}
	e := problem.New(problem.Exhausted, "budget-exhausted", fmt.Sprintf(
		"The %s has %s left, and this request could cost %s.", def.describe(),
		Money(saturatingAdd(left, balance), def.Currency), Money(worst, def.Currency)))
	if def.Period == Total {
		return e.WithMend("Ask for a higher budget, or for a shorter answer with max_tokens.")
	}
	end := time.Unix(0, w.end).UTC()
	return e.WithMend("It starts again at " + end.Format("2006-01-02 15:04") + " UTC. Until then, ask for a higher budget, or for a shorter answer with max_tokens.").
		WithRetry(time.Duration(w.end - t))
}

// describe names a budget in a sentence.
func (d *Budget) describe() string {
	period := map[Period]string{Day: "daily", Month: "monthly", Total: "total"}[d.Period]
	whose := "of the organisation"
	if d.Key != "" {
		whose = "of key " + d.Key
	}
	return period + " budget " + whose + " of " + Money(d.LimitNano, d.Currency)
}

// Money renders nano-units with the currency's usual two decimals, or with as
// many as a smaller amount needs.
func Money(nano int64, currency string) string {
	sign := ""
	n := uint64(nano)
	if nano < 0 {
		sign, n = "-", -n
	}
	fraction := fmt.Sprintf("%09d", n%1_000_000_000)
	keep := 2
	for i := len(fraction); i > keep; i-- {
		if fraction[i-1] != '0' {
			keep = i
		}
	}
	if n >= 1_000_000_000 {
		keep = 2
	}
	return sign + strconv.FormatUint(n/1_000_000_000, 10) + "." + fraction[:keep] + " " + currency
}
