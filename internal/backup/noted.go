package backup

import (
	"context"

	"github.com/missionopsai/foundry/internal/backup/scratch"
)

// notedSentinels is how many sentinels a kit carries: some twenty minutes.
const notedSentinels = 128

// Noted is what a kit carries about the database, so that what is recovered
// from it can be compared with something from outside.
func (b *Backups) Noted(ctx context.Context) (n Noted, err error) {
	n.At = b.o.Clock().UTC()
	if n.Sentinels, err = sentinelsUntil(ctx, b.o.DB, n.At, notedSentinels); err != nil {
		return n, err
	}
	if n.Notes, err = notesAround(ctx, b.o.DB, n.At); err != nil {
		return n, err
	}
	if len(n.Notes) == 0 {
		note, err := scratch.Count(ctx, b.o.DB)
		if err != nil {
			return n, err
		}
		n.Notes = []scratch.Note{note}
	}
	n.Archived, _ = b.ArchivedTo()
	return n, nil
}
