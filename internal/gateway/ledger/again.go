package ledger

import (
	"context"

	"github.com/missionopsai/foundry/internal/gateway/journal"
)

// Reshipped says what a database that took another's place lacks of this
// journal.
type Reshipped struct {
	Had  journal.Position `json:"had"`  // up to where the database before had it
	Has  journal.Position `json:"has"`  // up to where this one has it
	From journal.Position `json:"from"` // the first record that the journal still holds; what lies between Has and From is lost to the ledger
}

// Forget has the shipper ask the database anew what it has, before it ships
// anything more: the database is about to be another one, restored from a
// backup, which lacks what was shipped last. Records that the journal still
// holds are shipped again.
func (s *Shipper) Forget() {
	s.shipping.Lock()
	defer s.shipping.Unlock()
	s.known, s.unsure = false, false
}

// Compare asks the database what it has of this journal. had is how far the one
// before had it.
func (s *Shipper) Compare(ctx context.Context, had journal.Position) (Reshipped, error) {
	at, err := s.shipped(ctx)
	if err != nil {
		return Reshipped{}, err
	}
	return Reshipped{Had: had, Has: at, From: s.journal.Oldest()}, nil
}

// Count says how many records of the same boot are shipped again, and how many
// are in no journal any more. Over a restart of the gateway neither can be
// counted by places alone: what the journal holds is shipped again all the same.
func (r Reshipped) Count() (replayed, lost uint64) {
	if r.Has.Boot != r.Had.Boot || r.Has.Seq >= r.Had.Seq {
		return 0, 0
	}
	first := r.Has.Seq + 1
	if r.From.Boot == r.Had.Boot && r.From.Seq > first {
		lost = min(r.From.Seq, r.Had.Seq+1) - first
	}
	return r.Had.Seq - r.Has.Seq - lost, lost
}
