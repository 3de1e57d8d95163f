package ledger

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgtype"
)

// column builds a one-dimensional PostgreSQL array in binary form, as a
// parameter of INSERT … SELECT unnest($1, …). Its memory is used again for the
// next batch. Writing the bytes here costs a tenth of going through the
// driver's general encoder, and every request pays for thirty of them.
//
// https://github.com/postgres/postgres/blob/REL_15_STABLE/src/backend/utils/adt/arrayfuncs.c (array_recv)
type column struct {
	element uint32 // OID of the elements
	buf     []byte
	n       int
	nulls   bool
}

const arrayHeader = 20

func (c *column) reset() {
	if cap(c.buf) < arrayHeader {
		c.buf = make([]byte, 0, 64) // most tables of a batch have no rows, and their columns stay as they are
	}
	c.buf, c.n, c.nulls = c.buf[:arrayHeader], 0, false
}

// finish fills in the header and returns the parameter's value.
func (c *column) finish() []byte {
	h := c.buf
	binary.BigEndian.PutUint32(h[0:], 1) // dimensions
	binary.BigEndian.PutUint32(h[4:], 0)
	if c.nulls {
		binary.BigEndian.PutUint32(h[4:], 1)
	}
	binary.BigEndian.PutUint32(h[8:], c.element)
	binary.BigEndian.PutUint32(h[12:], uint32(c.n))
	binary.BigEndian.PutUint32(h[16:], 1) // lower bound
	return h
}

func (c *column) null() {
	c.buf = binary.BigEndian.AppendUint32(c.buf, math.MaxUint32) // length -1
	c.nulls = true
	c.n++
}

func (c *column) int64(v int64) {
	c.buf = binary.BigEndian.AppendUint64(append(c.buf, 0, 0, 0, 8), uint64(v))
	c.n++
}

func (c *column) int32(v int32) {
	c.buf = binary.BigEndian.AppendUint32(append(c.buf, 0, 0, 0, 4), uint32(v))
	c.n++
}

func (c *column) int16(v int) {
	v = min(max(v, math.MinInt16), math.MaxInt16)
	c.buf = binary.BigEndian.AppendUint16(append(c.buf, 0, 0, 0, 2), uint16(int16(v)))
	c.n++
}

func (c *column) bool(v bool) {
	c.buf = append(c.buf, 0, 0, 0, 1, flag(v, 1))
	c.n++
}

func (c *column) bytes(v []byte) {
	c.buf = append(binary.BigEndian.AppendUint32(c.buf, uint32(len(v))), v...)
	c.n++
}

// text stores what PostgreSQL takes as text: valid UTF-8 without NUL.
func (c *column) text(v string) {
	if strings.IndexByte(v, 0) >= 0 || !utf8.ValidString(v) {
		v = storable(v)
	}
	c.buf = append(binary.BigEndian.AppendUint32(c.buf, uint32(len(v))), v...)
	c.n++
}

func storable(v string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(v, "\uFFFD"), "\x00", "\uFFFD")
}

// postgresEpoch is 2000-01-01, from which PostgreSQL counts microseconds.
const postgresEpoch = 946_684_800_000_000

func (c *column) time(v time.Time) { c.int64(v.UnixMicro() - postgresEpoch) }

// table builds the rows of one INSERT.
type table struct {
	name    string // also of the prepared statement
	insert  string
	source  string // of the rows: the table in the database
	fields  []field
	columns []column
	formats []int16
	values  [][]byte
}

// fields is a column's name and type, in the order that rows are written.
type field struct {
	name    string
	element uint32
}

var arrayOf = map[uint32]string{
	pgtype.Int8OID: "bigint[]", pgtype.Int4OID: "integer[]", pgtype.Int2OID: "smallint[]",
	pgtype.TextOID: "text[]", pgtype.ByteaOID: "bytea[]", pgtype.BoolOID: "boolean[]",
	pgtype.UUIDOID: "uuid[]", pgtype.TimestamptzOID: "timestamptz[]", pgtype.JSONOID: "json[]",
}

func newTable(name string, fields ...field) *table {
	t := &table{name: "ledger_" + name, source: name, fields: fields, columns: make([]column, len(fields)), values: make([][]byte, len(fields))}
	var names, params strings.Builder
	for i, f := range fields {
		if i > 0 {
			names.WriteString(", ")
			params.WriteString(", ")
		}
		names.WriteString(f.name)
		params.WriteString("$" + strconv.Itoa(i+1) + "::" + arrayOf[f.element])
		t.columns[i].element = f.element
		t.formats = append(t.formats, 1)
	}
	// No conflict target: naming one would need SELECT, which the shipper lacks.
	t.insert = "INSERT INTO " + name + " (" + names.String() + ") SELECT * FROM unnest(" + params.String() + ") ON CONFLICT DO NOTHING"
	t.reset()
	return t
}

func (t *table) reset() {
	for i := range t.columns {
		t.columns[i].reset()
	}
}

func (t *table) rows() int { return t.columns[0].n }

func (t *table) parameters() [][]byte {
	for i := range t.columns {
		t.values[i] = t.columns[i].finish()
	}
	return t.values
}

// row writes one row, cell by cell.
type row struct {
	t *table
	i int
}

func (t *table) row() row { return row{t: t} }

func (r *row) next() *column { c := &r.t.columns[r.i]; r.i++; return c }

func (r *row) int64(v int64)    { r.next().int64(v) }
func (r *row) int32(v int32)    { r.next().int32(v) }
func (r *row) int16(v int)      { r.next().int16(v) }
func (r *row) bool(v bool)      { r.next().bool(v) }
func (r *row) bytes(v []byte)   { r.next().bytes(v) }
func (r *row) text(v string)    { r.next().text(v) }
func (r *row) time(v time.Time) { r.next().time(v) }
func (r *row) null()            { r.next().null() }

// json stores v, or null if it cannot be written as JSON.
func (r *row) json(v any) {
	text, err := json.Marshal(v)
	if err != nil {
		r.null()
		return
	}
	r.bytes(text)
}
