package keys

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Limits of one AES-256-GCM key with random 96-bit nonces. NIST SP 800-38D,
// 8.3: at most 2^32 values, or two of them may share a nonce with a
// probability above 2^-32. 2^52 bytes are 2^48 blocks, for which the advantage
// against a random function stays below 2^-32.
const (
	MaxValues = int64(1) << 32
	MaxBytes  = int64(1) << 52

	warnShare = 4 // warns at a quarter of either
)

// count is what one key has sealed since it was last written. What a killed
// process had not written is lost: at most what it sealed in one interval of
// [VaultOptions.Flush], which the margin of the warning covers many times. A
// rotation, which seals most, writes its counts with its values.
type count struct {
	bytes, values atomic.Int64
	files         atomic.Bool // it is stored that files refer to this key
}

func (c *count) add(bytes int) { c.addMany(int64(bytes), 1) }

func (c *count) addMany(bytes, values int64) {
	c.bytes.Add(bytes)
	c.values.Add(values)
}

type counted struct {
	org uuid.UUID
	key uint32
}

func (v *Vault) count(org uuid.UUID, key uint32) *count {
	c, _ := v.counts.LoadOrStore(counted{org, key}, &count{})
	return c.(*count)
}

// FlushCounts adds what was sealed since the last time to the stored counts,
// and warns of keys that near their limits.
func (v *Vault) FlushCounts(ctx context.Context) (err error) {
	v.counts.Range(func(k, c any) bool {
		err = v.flushCount(ctx, k.(counted), c.(*count))
		return err == nil
	})
	return err
}

func (v *Vault) flushCount(ctx context.Context, k counted, c *count) error {
	bytes, values := c.bytes.Swap(0), c.values.Swap(0)
	if values == 0 {
		return nil
	}
	var allBytes, allValues int64
	err := v.o.DB.Org(ctx, k.org, func(tx pgx.Tx) (err error) {
		allBytes, allValues, err = k.store(ctx, tx, bytes, values)
		return err
	})
	if err != nil {
		c.addMany(bytes, values)
		return err
	}
	if NearLimit(allBytes, allValues) {
		v.o.Log.Warn("a key nears the limit of what it may seal: rotate it", "organisation", k.org, "key", keyName(k.key), "bytes", allBytes, "values", allValues)
	}
	return nil
}

// store adds to the stored count of a key, in a transaction of its
// organisation, and returns the sum.
func (k counted) store(ctx context.Context, tx pgx.Tx, bytes, values int64) (allBytes, allValues int64, err error) {
	err = tx.QueryRow(ctx, `UPDATE keyset_keys SET bytes_sealed = bytes_sealed + $3, values_sealed = values_sealed + $4
		WHERE organisation_id = $1 AND key_id = $2 RETURNING bytes_sealed, values_sealed`, k.org, int64(k.key), bytes, values).Scan(&allBytes, &allValues)
	if err != nil {
		return 0, 0, fmt.Errorf("counting what the key %s sealed: %w", keyName(k.key), err)
	}
	return allBytes, allValues, nil
}

// NearLimit reports whether a key should be rotated for what it has sealed.
func NearLimit(bytes, values int64) bool {
	return bytes >= MaxBytes/warnShare || values >= MaxValues/warnShare
}
