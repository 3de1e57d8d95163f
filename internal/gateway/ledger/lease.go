package ledger

import "context"

func (b *Budgets) run(ctx context.Context) error { <-ctx.Done(); return nil }

// Refresh reads from the database which budgets exist.
func (b *Budgets) Refresh(ctx context.Context) error { return nil }

// Close returns what this boot leased and did not spend.
func (b *Budgets) Close(ctx context.Context) error { return nil }
