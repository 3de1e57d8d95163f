package console

import (
	"context"
	"sync"
	"time"

	"github.com/missionopsai/foundry/internal/keys"
	"github.com/missionopsai/foundry/internal/problem"
)

// canaries is the search for a canary on this node: one at a time, and what
// the last one found.
type canaries struct {
	mu      sync.Mutex
	began   time.Time // of the one that runs, or of the last one
	running bool
	by      string
	report  *keys.CanaryReport
	failure *problem.Error
}

// canaryTime bounds a search: it reads every file of the node once.
const canaryTime = 30 * time.Minute

// begin claims the search; false: one is running.
func (s *canaries) begin(by string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running {
		return false
	}
	s.running, s.began, s.by, s.failure = true, now, by, nil
	return true
}

func (s *canaries) end(r keys.CanaryReport, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = false
	if err != nil {
		s.failure = problem.From(err)
		return
	}
	s.report = &r
}

// pulse changes while a search runs, and when it has ended.
func (s *canaries) pulse() any {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running {
		return time.Now().Unix() / 2
	}
	return s.began
}

type canaryData struct {
	v       *visit
	running bool
	began   time.Time
	by      string
	report  *keys.CanaryReport
	failure *problem.Error
}

func (c *Console) canaryPage(v *visit) error {
	if c.Canary == nil || c.Go == nil {
		return errNoVault
	}
	c.canary.mu.Lock()
	d := canaryData{v: v, running: c.canary.running, began: c.canary.began, by: c.canary.by, report: c.canary.report, failure: c.canary.failure}
	c.canary.mu.Unlock()
	return v.show(page{Title: "Canary search", Path: toEncryption, Live: d.running, Crumbs: encryptionCrumbs}, canaryBody(d))
}

// startCanary starts a search that goes on without the browser.
func (c *Console) startCanary(v *visit) error {
	if c.Canary == nil || c.Go == nil {
		return errNoVault
	}
	by := v.who()
	if !c.canary.begin(by.String(), v.now) {
		return v.seeOther(toCanary)
	}
	c.Go(func(life context.Context) {
		ctx, cancel := context.WithTimeout(life, canaryTime)
		defer cancel()
		r, err := c.Canary(ctx, by)
		if err != nil {
			c.Log.Error("a canary search failed", "reference", problem.From(err).ID, "error", err)
		}
		c.canary.end(r, err)
	})
	return v.seeOther(toCanary)
}

// canaryState is what a search, or one area of it, came to.
func canaryState(s string) state {
	switch s {
	case keys.Pass:
		return state{ok, "Found nothing"}
	case keys.Fail:
		return state{bad, "Found"}
	}
	return state{warn, "Not all was read"}
}

// areaState is what the search of one area came to. What is found where no
// disk can get it is as it must be: plaintext has to be somewhere to be used.
func areaState(a keys.Area) state {
	if a.State == keys.Pass && len(a.Finds) > 0 {
		return state{ok, "In memory only"}
	}
	return canaryState(a.State)
}

// firstFinds are as many places as a page shows.
func firstFinds(list []keys.Find) []keys.Find { return list[:min(len(list), 10)] }

func firstLines(list []string) []string { return list[:min(len(list), 5)] }
