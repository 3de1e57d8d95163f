package keys

import "context"

// OpenAll opens the keyset of every organisation that has one, and returns how
// many there are. It proves that this node's key-encryption keys are those of
// the database. Keysets that were destroyed are left out.
func (v *Vault) OpenAll(ctx context.Context) (opened int, err error) {
	all, err := v.readVersions(ctx)
	if err != nil {
		return 0, err
	}
	for org := range all {
		row, err := v.readKeyset(ctx, org)
		if err != nil {
			return opened, err
		}
		if row == nil || row.DestroyedAt != nil || row.Wrapped == nil {
			continue
		}
		if _, err := v.unwrap(ctx, org, row); err != nil {
			return opened, err
		}
		opened++
	}
	return opened, nil
}
