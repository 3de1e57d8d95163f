package keys

import (
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// Place says where a sealed value belongs. A value does not open in any other
// place, nor for another organisation.
type Place struct {
	Table  string
	Column string
	Row    string // Row of the values of the key columns, as text
}

// Row names a row by the values of its key columns, in the order in which its
// [Column] names them. One value stands for itself; of several, each is
// preceded by its length, so that ("ab", "c") and ("a", "bc") differ.
func Row(values ...string) string {
	if len(values) == 1 {
		return values[0]
	}
	var b strings.Builder
	for _, v := range values {
		b.WriteString(strconv.Itoa(len(v)))
		b.WriteByte(':')
		b.WriteString(v)
	}
	return b.String()
}

// What a piece of associated data is about: no two uses may share a form.
const (
	aboutValue  = 1 // a value in a column
	aboutFile   = 2 // a file's body
	aboutKeyset = 3 // a wrapped keyset
	aboutData   = 4 // the key of a file's body
)

// associated encodes organisation, table, column and row so that no two places
// share an encoding: a version byte, what it is about, the organisation's 16
// bytes, then each text after its length as a varint.
func (p Place) associated(about byte, org uuid.UUID) []byte {
	b := make([]byte, 0, 2+16+3*2+len(p.Table)+len(p.Column)+len(p.Row))
	b = append(b, 1, about)
	b = append(b, org[:]...)
	for _, s := range [...]string{p.Table, p.Column, p.Row} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return b
}

// Column is a column that holds sealed values. Its owner says so, and rotation
// finds and re-encrypts what is in it: the value of Row is [Row] of the key
// columns' values as text, which must not depend on the session (no
// timestamps with time zone).
type Column struct {
	Table        string
	Column       string   // a bytea that holds what Seal returned, or NULL
	Keys         []string // the columns that name a row, in the order given to Row
	Organisation string   // the column that names the row's organisation; empty: rows of the installation
	Installation bool     // sealed with the installation's keyset, whichever organisation the row belongs to
}

// String is table.column.
func (c Column) String() string { return c.Table + "." + c.Column }

// keyID reads the id of the key that sealed a value: a Tink prefix is the
// byte 1 and the id in four bytes.
func keyID(sealed []byte) (uint32, bool) {
	if len(sealed) < 5 || sealed[0] != 1 {
		return 0, false
	}
	return binary.BigEndian.Uint32(sealed[1:5]), true
}

// prefixOf is how every value sealed by a key begins.
func prefixOf(id uint32) []byte { return binary.BigEndian.AppendUint32([]byte{1}, id) }
