package keys

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/missionopsai/foundry/internal/db"
	"github.com/missionopsai/foundry/internal/principal"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// VaultOptions make a Vault. DB, Keyring, Audit and Deny are required.
type VaultOptions struct {
	DB      *db.DB
	Keyring *Keyring // its key-encryption keys wrap the keysets
	Columns []Column // every column that holds sealed values

	// Audit records an act in its own transaction; Deny records a denial in
	// one of its own. They are audit.Append and audit.Deny.
	Audit func(ctx context.Context, tx pgx.Tx, p principal.Principal, org uuid.UUID, act, target string, details any) error
	Deny  func(ctx context.Context, d *db.DB, p principal.Principal, org uuid.UUID, act, target string, details any) error

	Undo         time.Duration // between the second approval and the end of a keyset; default 72 h
	DestroyAfter time.Duration // how long a key stays disabled before it is destroyed; default 24 h
	BackupDays   int           // for how long backups are kept; default 30 (security policy, section 7)
	FilesKept    time.Duration // how long what the keyring in files sealed in the database lives at most; default 7 days
	Flush        time.Duration // how often the counts of sealed bytes are written; default 30 s
	Clock        func() time.Time
	Log          *slog.Logger
	Step         func(name string) // told of each step that a kill may come between; for tests
}

// Vault seals and opens with the keyset of an organisation, and with the
// installation's under uuid.Nil. It is safe for concurrent use.
//
// Keysets are AES-256-GCM with random nonces, 1.2 times the price of the bare
// cipher at 4 KiB where XAES-256-GCM costs 1.4 times: in return the values
// sealed per key are counted and bounded (limits.go).
type Vault struct {
	o    VaultOptions
	keks *Keks

	hot     atomic.Pointer[map[uuid.UUID]*opened] // replaced, never changed
	loading sync.Mutex                            // of the map, and of loads

	counts sync.Map                        // counted → *count
	life   atomic.Pointer[context.Context] // of Run

	registered map[[2]string]bool // table and column
	settle     time.Duration

	cleared struct {
		sync.Mutex
		at time.Time // when the remains of destroyed keysets were last cleared, by the database's clock
	}
	jobs struct {
		sync.Mutex
		running map[uuid.UUID]*job
	}
}

// opened is a keyset in clear, with what seals and opens by it.
type opened struct {
	version int64
	handle  *keyset.Handle
	aead    tink.AEAD
	primary uint32
	status  map[uint32]keyset.KeyStatus
	used    *count
}

// NewVault makes a vault. [Vault.Run] keeps it in step with other nodes.
func NewVault(o VaultOptions) *Vault {
	set := func(to *time.Duration, value time.Duration) {
		if *to == 0 {
			*to = value
		}
	}
	set(&o.Undo, 72*time.Hour)
	set(&o.DestroyAfter, 24*time.Hour)
	set(&o.FilesKept, 7*24*time.Hour)
	set(&o.Flush, 30*time.Second)
	if o.BackupDays == 0 {
		o.BackupDays = 30
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Step == nil {
		o.Step = func(string) {}
	}
	o.Columns = append([]Column{canaryColumn}, o.Columns...)
	v := &Vault{o: o, keks: o.Keyring.keks, settle: settle}
	v.registered = map[[2]string]bool{}
	for _, c := range o.Columns {
		v.registered[[2]string{c.Table, c.Column}] = true
	}
	v.hot.Store(&map[uuid.UUID]*opened{})
	v.jobs.running = map[uuid.UUID]*job{}
	return v
}

// Seal encrypts a value for its place. The organisation's keyset is made when
// it is first needed.
//
// A column that is in no [VaultOptions.Columns] is refused: a rotation would
// not find its values, and would end their key.
func (v *Vault) Seal(ctx context.Context, org uuid.UUID, at Place, plaintext []byte) ([]byte, error) {
	if !v.registered[[2]string{at.Table, at.Column}] {
		return nil, fmt.Errorf("sealing a value of %s.%s: the column is not registered with the vault, and a rotation would lose it", at.Table, at.Column)
	}
	return v.seal(ctx, org, at.associated(aboutValue, org), plaintext)
}

func (v *Vault) seal(ctx context.Context, org uuid.UUID, associated, plaintext []byte) ([]byte, error) {
	sealed, k, err := v.encrypt(ctx, org, associated, plaintext)
	if err == nil {
		k.used.add(len(plaintext))
	}
	return sealed, err
}

// encrypt is seal for a caller that counts by itself what the key has sealed.
func (v *Vault) encrypt(ctx context.Context, org uuid.UUID, associated, plaintext []byte) ([]byte, *opened, error) {
	k := (*v.hot.Load())[org]
	if k == nil {
		var err error
		if k, err = v.load(ctx, org, nil); err != nil {
			return nil, nil, err
		}
	}
	sealed, err := k.aead.Encrypt(plaintext, associated)
	if err != nil {
		return nil, nil, fmt.Errorf("sealing a value: %w", err)
	}
	return sealed, k, nil
}

// Open decrypts what Seal made for the same organisation and place.
func (v *Vault) Open(ctx context.Context, org uuid.UUID, at Place, sealed []byte) ([]byte, error) {
	return v.open(ctx, org, at.associated(aboutValue, org), at.Table+"."+at.Column, sealed)
}

func (v *Vault) open(ctx context.Context, org uuid.UUID, associated []byte, what string, sealed []byte) ([]byte, error) {
	id, ok := keyID(sealed)
	if !ok {
		return nil, unopenable(what)
	}
	k := (*v.hot.Load())[org]
	if k == nil || k.status[id] != keyset.Enabled { // made or enabled on another node, and not heard of yet
		var err error
		if k, err = v.load(ctx, org, k); err != nil {
			return nil, err
		}
	}
	switch status, known := k.status[id]; {
	case !known:
		return nil, problem.New(problem.Internal, "key-destroyed", fmt.Sprintf("A value of %s was sealed with the key %08x, which does not exist here.", what, id)).
			WithMend("It was destroyed by a rotation, or the value comes from another installation: see `foundry keys status`.")
	case status != keyset.Enabled:
		return nil, problem.New(problem.Conflict, "key-disabled", fmt.Sprintf("A value of %s is still sealed with the disabled key %08x.", what, id)).
			WithMend("Run `foundry keys rotate`: it enables the key again, and re-encrypts the value.")
	}
	plaintext, err := k.aead.Decrypt(sealed, associated)
	if err != nil {
		return nil, unopenable(what)
	}
	return plaintext, nil
}

// unopenable does not carry the cause: it tells nothing more.
func unopenable(what string) error {
	return problem.New(problem.Internal, "value-unreadable", "A sealed value of "+what+" does not open: it was changed, or belongs to another place.").
		WithMend("Restore the row from a backup. If nobody changed it by hand, treat it as tampering.")
}

// load opens an organisation's keyset and makes one where there is none. A
// caller that found the cached one wanting passes it as stale.
func (v *Vault) load(ctx context.Context, org uuid.UUID, stale *opened) (*opened, error) {
	v.loading.Lock()
	defer v.loading.Unlock()
	if k := (*v.hot.Load())[org]; k != nil && k != stale {
		return k, nil
	}
	row, err := v.readKeyset(ctx, org)
	if err != nil {
		return nil, err
	}
	if row == nil {
		if row, err = v.makeKeyset(ctx, org); err != nil {
			return nil, err
		}
	}
	k, err := v.unwrap(ctx, org, row)
	if err != nil {
		v.forget(org)
		return nil, err
	}
	v.remember(org, k)
	return k, nil
}

// unwrap opens a stored keyset.
func (v *Vault) unwrap(ctx context.Context, org uuid.UUID, row *keysetRow) (*opened, error) {
	if row.DestroyedAt != nil {
		return nil, problem.New(problem.NotFound, "keyset-destroyed", "The keys of this organisation were shredded on "+row.DestroyedAt.UTC().Format(time.DateOnly)+": what they sealed cannot be read by anybody.").
			WithMend("`foundry keys shred status` shows who asked for it and who approved it.")
	}
	kek, err := v.keks.find(ctx, row.KEK)
	if err != nil {
		return nil, err
	}
	h, err := keyset.ReadWithAssociatedData(keyset.NewBinaryReader(bytes.NewReader(row.Wrapped)), kek.aead, keysetData(org))
	if err != nil {
		return nil, problem.New(problem.Internal, "keyset-damaged", "The wrapped keyset of organisation "+org.String()+" does not open: it was truncated, changed or moved.").
			WithMend("Restore its row of the table keysets from a backup. If nobody changed it by hand, treat it as tampering.")
	}
	return v.use(org, h, row.Version)
}

// use makes the primitives of a keyset.
func (v *Vault) use(org uuid.UUID, h *keyset.Handle, version int64) (*opened, error) {
	a, err := aead.New(h)
	if err != nil {
		return nil, fmt.Errorf("using the keyset of %s: %w", org, err)
	}
	k := &opened{version: version, handle: h, aead: a, primary: h.KeysetInfo().GetPrimaryKeyId(), status: map[uint32]keyset.KeyStatus{}}
	for i := range h.Len() {
		e, err := h.Entry(i)
		if err != nil {
			return nil, fmt.Errorf("using the keyset of %s: %w", org, err)
		}
		k.status[e.KeyID()] = e.KeyStatus()
	}
	k.used = v.count(org, k.primary)
	return k, nil
}

// wrap encrypts a keyset with the key-encryption key in force.
func (v *Vault) wrap(org uuid.UUID, h *keyset.Handle, kek *KEK) ([]byte, error) {
	var out bytes.Buffer
	if err := h.WriteWithAssociatedData(keyset.NewBinaryWriter(&out), kek.aead, keysetData(org)); err != nil {
		return nil, fmt.Errorf("wrapping the keyset of %s: %w", org, err)
	}
	return out.Bytes(), nil
}

// keysetData binds a wrapped keyset to its organisation: another's does not
// open in its place.
func keysetData(org uuid.UUID) []byte {
	return Place{Table: "keysets", Column: "wrapped", Row: org.String()}.associated(aboutKeyset, org)
}

func (v *Vault) remember(org uuid.UUID, k *opened) {
	next := maps.Clone(*v.hot.Load())
	next[org] = k
	v.hot.Store(&next)
}

func (v *Vault) forget(org uuid.UUID) {
	next := maps.Clone(*v.hot.Load())
	delete(next, org)
	v.hot.Store(&next)
}

// Run keeps the vault in step with the database until ctx ends: keysets that
// another node changed are forgotten within the heartbeat, counts are written,
// rotations that were interrupted go on, and what is due is destroyed.
func (v *Vault) Run(ctx context.Context) {
	v.life.Store(&ctx)
	var all sync.WaitGroup
	all.Go(func() {
		v.o.DB.Listen(ctx, 500*time.Millisecond, func() {
			if err := v.follow(ctx); err != nil && ctx.Err() == nil {
				v.o.Log.Warn("changes of keysets were not read", "error", err)
			}
		})
	})
	all.Go(func() { v.sweep(ctx) })
	all.Wait()
	flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := v.FlushCounts(flush); err != nil {
		v.o.Log.Warn("counts of sealed bytes were not written", "error", err)
	}
}

// follow forgets every cached keyset whose stored version is another.
func (v *Vault) follow(ctx context.Context) error {
	if len(*v.hot.Load()) == 0 {
		return nil
	}
	versions, err := v.readVersions(ctx)
	if err != nil {
		return err
	}
	v.loading.Lock()
	defer v.loading.Unlock()
	for org, k := range *v.hot.Load() {
		if versions[org] != k.version {
			v.forget(org)
		}
	}
	return nil
}

// sweepEvery is how often due work is looked for.
const sweepEvery = time.Minute

func (v *Vault) sweep(ctx context.Context) {
	flush, due := time.NewTicker(v.o.Flush), time.NewTicker(sweepEvery)
	defer flush.Stop()
	defer due.Stop()
	if v.o.DB.WaitHealthy(ctx) == nil {
		v.dueWork(ctx)
	}
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-flush.C:
			err = v.FlushCounts(ctx)
		case <-due.C:
			v.dueWork(ctx)
		}
		if err != nil && ctx.Err() == nil {
			v.o.Log.Warn("counts of sealed bytes were not written", "error", err)
		}
	}
}

func (v *Vault) dueWork(ctx context.Context) {
	for name, do := range map[string]func(context.Context) error{
		"shredding": v.ShredDue, "resuming rotations": v.ResumeRotations, "destroying old keys": v.DestroyDue,
	} {
		if err := do(ctx); err != nil && ctx.Err() == nil {
			v.o.Log.Error("work on keys that is due was not done", "work", name, "error", err)
		}
	}
}
