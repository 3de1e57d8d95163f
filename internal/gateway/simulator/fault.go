package simulator

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/problem"
)

// Fault is one way to misbehave. Its textual form is its name, then
// parameters: "cut chunk=3 with=rst". Faults lists the names.
//
// A position counts what the client gets before the fault. In a stream that is
// content chunks (text, reasoning or tool-call deltas; the vendor's preamble
// always goes out, so chunk=0 is just before the first token), or with event=
// any events. A body that is not streamed counts as eight chunks. A position
// beyond the end is the end of the content: a fault always happens.
type Fault struct {
	Name       string
	Status     int           // HTTP status, where the fault has one
	RetryAfter string        // value of the Retry-After header, "" for none
	Chunk      int           // happens after this many content chunks
	Event      int           // if above zero: after this many events of any sort instead
	Mid        bool          // cut, stall: in the middle of the chunk that follows
	With       string        // how a cut ends: fin, rst, or eof (a proper end of the HTTP body)
	For        time.Duration // how long: a hang (0: until the client leaves), a drip's pause
	Size       int64         // bytes
	Value      string        // a redirect's target, a content type, where something huge is
}

// The names of the faults. A bare HTTP status from 400 to 599 is a fault too:
// the vendor's error for it.
const (
	faultStatus          = "status"
	faultQuotesKey       = "quotes-key"
	faultQuota           = "quota-exceeded"
	faultContext         = "context-length-exceeded"
	faultHTMLPage        = "html-page"
	faultRedirect        = "redirect"
	faultEarlyClose      = "early-close"
	faultEarlyError      = "early-error"
	faultHangBefore      = "hang-before-headers"
	faultHangAfter       = "hang-after-headers"
	faultStall           = "stall"
	faultCut             = "cut"
	faultErrorEvent      = "error-event"
	faultNoDone          = "no-done"
	faultMalformed       = "malformed-json"
	faultSplit           = "split-every-byte"
	faultDrip            = "drip"
	faultHuge            = "huge"
	faultContentType     = "wrong-content-type"
	faultDuplicateUsage  = "duplicate-usage"
	faultNoUsage         = "no-usage"
	faultAbsurdUsage     = "absurd-usage"
	faultEmptyAnswer     = "empty-answer"
	faultEmptyBody       = "empty-body"
	faultContentFilter   = "content-filter"
	faultTrailingGarbage = "trailing-garbage"
	faultGzip            = "gzip"
	faultCRLF            = "sse-crlf"
	faultComments        = "sse-comments"
	faultEarlyHints      = "early-hints"
	faultConnectionClose = "connection-close"
)

// faults says what each fault does, which parameters it takes and what they
// are if not given.
var faults = map[string]struct {
	does   string
	params string
	fault  Fault
}{
	faultStatus:          {"the vendor's error for a status; written as the bare number", "retry-after", Fault{}},
	faultQuotesKey:       {"an error whose text quotes the credential that was sent", "status", Fault{Status: 401}},
	faultQuota:           {"the vendor's error for a spent budget: a 429 that no waiting cures", "", Fault{Status: 429}},
	faultContext:         {"the vendor's error for a prompt beyond the context window", "", Fault{Status: 400}},
	faultHTMLPage:        {"a proxy's HTML error page instead of an answer", "status", Fault{Status: 502}},
	faultRedirect:        {"a redirect", "to status", Fault{Status: 307, Value: "https://elsewhere.invalid/v1/chat/completions"}},
	faultEarlyClose:      {"the connection closes before the first byte of an answer", "with", Fault{With: "fin"}},
	faultEarlyError:      {"the vendor's error before the request body is read, then the connection closes", "status", Fault{Status: 413}},
	faultHangBefore:      {"silence before the header", "for", Fault{}},
	faultHangAfter:       {"silence after the header", "for", Fault{}},
	faultStall:           {"silence in the middle of the answer", "chunk event mid for", Fault{}},
	faultCut:             {"the answer ends in the middle", "chunk event mid with", Fault{With: "fin"}},
	faultErrorEvent:      {"the vendor's error event in the middle of a stream; a 500 if not streamed", "chunk event", Fault{}},
	faultNoDone:          {"a whole stream without its closing event", "", Fault{}},
	faultMalformed:       {"one event that is not JSON; the whole body if not streamed", "chunk event", Fault{}},
	faultSplit:           {"every byte on its own", "", Fault{}},
	faultDrip:            {"a few bytes at a time with a pause between: drip 50ms size=16", "for size", Fault{For: 50 * time.Millisecond, Size: 16}},
	faultHuge:            {"an answer of that many bytes: huge 50MB in=chunks|event|header", "size in", Fault{Size: 50 << 20, Value: "chunks"}},
	faultContentType:     {"the right bytes under a wrong Content-Type", "type", Fault{Value: "text/html; charset=utf-8"}},
	faultDuplicateUsage:  {"usage twice, the second one larger", "", Fault{}},
	faultNoUsage:         {"no usage at all", "", Fault{}},
	faultAbsurdUsage:     {"negative and enormous usage", "", Fault{}},
	faultEmptyAnswer:     {"a well-formed answer without any text", "", Fault{}},
	faultEmptyBody:       {"a 200 without a single byte of body", "", Fault{}},
	faultContentFilter:   {"an answer that the vendor's filter stopped", "", Fault{}},
	faultTrailingGarbage: {"bytes after the end of the answer", "", Fault{}},
	faultGzip:            {"a compressed answer that nobody asked for", "", Fault{}},
	faultCRLF:            {"a stream with CRLF line ends", "", Fault{}},
	faultComments:        {"a stream with comment lines between its events", "", Fault{}},
	faultEarlyHints:      {"a 103 before the answer", "", Fault{}},
	faultConnectionClose: {"a right answer, after which the connection closes", "", Fault{}},
}

// shorthands are other spellings.
var shorthands = map[string]string{
	"401-quotes-key": "quotes-key status=401",
	"500-quotes-key": "quotes-key status=500",
	"overloaded-529": "529",
}

// Faults lists every fault by name with what it does, sorted, for help texts
// and for tests that go through all of them.
func Faults() []string {
	list := make([]string, 0, len(faults))
	for name, f := range faults {
		if name == faultStatus {
			name = "429"
		}
		list = append(list, name+": "+f.does)
	}
	sort.Strings(list)
	return list
}

// MustFault is ParseFault for constants: it panics on an error.
func MustFault(s string) Fault {
	f, err := ParseFault(s)
	if err != nil {
		panic(err)
	}
	return f
}

// ParseFault reads the textual form, for example "429 retry-after=2",
// "stall chunk=3", "drip 50ms" or "huge 50MB". Every parameter may be left out.
func ParseFault(s string) (Fault, error) {
	words := strings.Fields(s)
	if len(words) > 0 {
		if long, ok := shorthands[words[0]]; ok {
			words = append(strings.Fields(long), words[1:]...)
		}
	}
	if len(words) == 0 {
		return Fault{}, faultError("The fault is empty.")
	}
	name, f := words[0], Fault{}
	if status, err := strconv.Atoi(name); err == nil {
		if status < 400 || status > 599 || len(name) != 3 {
			return Fault{}, faultError(fmt.Sprintf("%q is no HTTP error status.", name))
		}
		name, f.Status = faultStatus, status
	} else if name == faultStatus {
		return Fault{}, faultError("A status is written as the bare number.")
	}
	known, ok := faults[name]
	if !ok {
		return Fault{}, faultError(fmt.Sprintf("There is no fault %q.", name))
	}
	if f.Status == 0 {
		f = known.fault
	}
	f.Name = name
	for _, word := range words[1:] {
		key, value, found := strings.Cut(word, "=")
		if !found {
			key, value = bareKey(name, word)
		}
		if !contains(known.params, key) {
			return Fault{}, faultError(fmt.Sprintf("The fault %q has no parameter %q.", words[0], key))
		}
		if err := f.set(key, value); err != nil {
			return Fault{}, err
		}
	}
	return f, nil
}

// bareKey names the parameter of a word without "=": "drip 50ms", "huge 50MB",
// "cut mid".
func bareKey(name, word string) (key, value string) {
	switch {
	case word == "mid":
		return "mid", "true"
	case name == faultDrip || name == faultHangBefore || name == faultHangAfter:
		return "for", word
	case name == faultHuge:
		return "size", word
	case name == faultRedirect:
		return "to", word
	}
	return word, ""
}

func contains(params, key string) bool {
	for _, p := range strings.Fields(params) {
		if p == key {
			return true
		}
	}
	return false
}

func (f *Fault) set(key, value string) error {
	var err error
	switch key {
	case "status":
		if f.Status, err = strconv.Atoi(value); err == nil && (f.Status < 200 || f.Status > 599) {
			err = strconv.ErrRange
		}
	case "retry-after":
		f.RetryAfter = value
	case "chunk":
		f.Chunk, err = parseCount(value)
	case "event":
		f.Event, err = parseCount(value)
	case "mid":
		f.Mid, err = strconv.ParseBool(value)
	case "with":
		if f.With = value; value != "fin" && value != "rst" && value != "eof" {
			err = strconv.ErrSyntax
		}
	case "for":
		if f.For, err = time.ParseDuration(value); err == nil && f.For < 0 {
			err = strconv.ErrRange
		}
	case "size":
		f.Size, err = parseSize(value)
	case "in":
		if f.Value = value; value != "chunks" && value != "event" && value != "header" {
			err = strconv.ErrSyntax
		}
	case "to", "type":
		f.Value = value
	}
	if err != nil {
		return faultError(fmt.Sprintf("%q is no value for %s.", value, key)).WithField(key).Wrap(err)
	}
	return nil
}

func parseCount(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	return int(n), err
}

// parseSize reads bytes: 512, 64KB, 50MB. The units are powers of 1024 and a
// gibibyte is the bound.
func parseSize(s string) (int64, error) {
	unit := int64(1)
	for suffix, u := range map[string]int64{"KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30} {
		if rest, ok := strings.CutSuffix(s, suffix); ok {
			s, unit = rest, u
			break
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err == nil && (n < 1 || n > (1<<30)/unit) {
		err = strconv.ErrRange
	}
	return n * unit, err
}

func faultError(detail string) *problem.Error {
	return problem.New(problem.Invalid, "simulator-fault", detail).
		WithMend(`Write it like "429 retry-after=2", "cut chunk=3 with=rst" or "drip 50ms".`)
}

// String gives the textual form: ParseFault reads it back to the same Fault.
func (f Fault) String() string {
	if f.Name == "" {
		return ""
	}
	known := faults[f.Name]
	b := f.Name
	if f.Name == faultStatus {
		b = strconv.Itoa(f.Status)
	}
	add := func(key, value string, differs bool) {
		if differs && contains(known.params, key) {
			b += " " + key + "=" + value
		}
	}
	d := known.fault
	add("status", strconv.Itoa(f.Status), f.Status != d.Status)
	add("retry-after", f.RetryAfter, f.RetryAfter != "")
	add("chunk", strconv.Itoa(f.Chunk), f.Chunk != 0)
	add("event", strconv.Itoa(f.Event), f.Event != 0)
	add("mid", "true", f.Mid)
	add("with", f.With, f.With != d.With)
	add("for", f.For.String(), f.For != d.For)
	add("size", strconv.FormatInt(f.Size, 10), f.Size != d.Size)
	add("in", f.Value, f.Value != d.Value)
	add("to", f.Value, f.Value != d.Value)
	add("type", f.Value, f.Value != d.Value)
	return b
}
