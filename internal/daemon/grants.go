package daemon

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/missionopsai/foundry/internal/access"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/missionopsai/foundry/internal/notify"
	"github.com/missionopsai/foundry/internal/problem"
)

// staff is what knows who of the platform may see which client's data, and who
// has access to what at all.
type staff struct {
	grants   *access.Grants
	register *access.Register
}

// registerEvery is how often the register of access is compared with what is so.
const registerEvery = time.Hour

// makeStaff makes it.
func (d *Daemon) makeStaff(store *ledger.Store) error {
	d.grants = access.NewGrants(access.GrantOptions{DB: d.db, Guard: d.guard, Names: d.people.Names, Alarm: d.glassBroken, Approved: d.clientTold})
	seed, err := d.keyring.MACKey("access register signature")
	if err != nil {
		return fmt.Errorf("deriving the key that signs the access register: %w", err)
	}
	key := ed25519.NewKeyFromSeed(seed[:ed25519.SeedSize])
	public, _ := key.Public().(ed25519.PublicKey)
	name := "ed25519:" + hex.EncodeToString(public)
	d.register = access.NewRegister(access.RegisterOptions{DB: d.db, Guard: d.guard, Grants: d.grants,
		Socket: SocketPath(d.config.DataDir), Logins: d.databaseLogins(), KeyUse: store.KeysLastUsed,
		Sign: func(m []byte) (string, []byte, error) { return name, ed25519.Sign(key, m), nil },
		Verify: func(signer string, m, signature []byte) error {
			if signer != name || !ed25519.Verify(public, m, signature) {
				return problem.New(problem.Denied, "register-signature", "This installation did not sign it.")
			}
			return nil
		}})
	return nil
}

// databaseLogins are the logins that the installation made.
func (d *Daemon) databaseLogins() []string {
	var logins []string
	for _, role := range db.Roles {
		logins = append(logins, string(role))
	}
	if d.cluster.Load() != nil {
		logins = append(logins, "foundry_bootstrap", string(db.Countersigner))
	}
	return logins
}

// runRegister compares the register of access every hour, until ctx ends.
func (d *Daemon) runRegister(ctx context.Context) {
	told := map[string]bool{} // of reviews that are past their day; a start tells again
	d.register.Run(ctx, registerEvery, func(r access.RegisterReport, err error) {
		if err != nil {
			d.log.Warn("the register of access was not compared with what is so", "error", err)
			return
		}
		for _, f := range r.Findings {
			d.log.Warn("finding in the register of access", "code", f.Code, "kind", f.Kind, "id", f.ID, "organisation", f.Organisation)
			if f.Code == access.FindingOverdue && !told[f.ID] {
				told[f.ID] = true
				// Nothing is taken away by itself: a reviewer who is on holiday must not
				// lock everybody out. Somebody is told, and O-14 fails until it is done.
				d.alarm(notify.Warning, "access-review.overdue", f.Organisation, map[string]string{"review": f.ID, "says": f.Detail, "next": f.Mend})
			}
		}
	})
}
