package wire

import (
	"fmt"
	"strings"
	"testing"
)

// events reads a stream that arrives in pieces.
func events(pieces ...string) (list []string, rest string) {
	var buf []byte
	for _, p := range pieces {
		buf = append(buf, p...)
		for {
			ev, n := NextEvent(buf)
			if n == 0 {
				break
			}
			switch {
			case ev.Data == nil:
				list = append(list, fmt.Sprintf("%s -", ev.Name))
			default:
				list = append(list, fmt.Sprintf("%s %q", ev.Name, ev.Data))
			}
			buf = buf[n:]
		}
	}
	return list, string(buf)
}

var streams = []struct {
	name, stream string
	want         []string
	rest         string
}{
	{"one event", "data: a\n\n", []string{` "a"`}, ""},
	{"a named event", "event: ping\ndata: {}\n\n", []string{`ping "{}"`}, ""},
	{"the name after the data", "data: {}\nevent: ping\n\n", []string{`ping "{}"`}, ""},
	{"CRLF", "event: x\r\ndata: a\r\n\r\ndata: b\r\n\r\n", []string{`x "a"`, ` "b"`}, ""},
	{"CR alone", "event: x\rdata: a\r\rdata: b\r\r", []string{`x "a"`, ` "b"`}, ""},
	{"mixed ends", "data: a\r\ndata: b\rdata: c\n\r\n", []string{` "a\nb\nc"`}, ""},
	{"no space after the colon", "data:a\n\n", []string{` "a"`}, ""},
	{"only one space is dropped", "data:  a \n\n", []string{` " a "`}, ""},
	{"several lines", "data: a\ndata:\ndata: b\n\n", []string{` "a\n\nb"`}, ""},
	{"data without a colon", "data\n\n", []string{` ""`}, ""},
	{"empty data", "data:\n\n", []string{` ""`}, ""},
	{"a comment", ": keep-alive\n\ndata: a\n\n", []string{" -", ` "a"`}, ""},
	{"a comment within an event", ": c\ndata: a\n: d\n\n", []string{` "a"`}, ""},
	{"retry and id", "retry: 10\nid: 1\n\n", []string{" -"}, ""},
	{"an unknown field", "foo: bar\ndata: a\n\n", []string{` "a"`}, ""},
	{"a field in capitals is unknown", "DATA: a\n\n", []string{" -"}, ""},
	{"a field with a space is unknown", "data : a\n\n", []string{" -"}, ""},
	{"the last name wins", "event: a\nevent: b\ndata: x\n\n", []string{`b "x"`}, ""},
	{"blank lines before", "\n\r\n\r\rdata: a\n\n", []string{` "a"`}, ""},
	{"an unfinished event", "data: a\n\ndata: b\n", []string{` "a"`}, "data: b\n"},
	{"an unfinished line", "data: a", nil, "data: a"},
	{"colons in the data", "data: {\"a\":\"b: c\"}\n\n", []string{` "{\"a\":\"b: c\"}"`}, ""},
	{"a NUL passes", "data: a\x00b\n\n", []string{` "a\x00b"`}, ""},
	{"no data and no name", "\n\n\n", nil, "\n\n\n"},
}

func TestNextEvent(t *testing.T) {
	for _, c := range streams {
		t.Run(c.name, func(t *testing.T) {
			got, rest := events(c.stream)
			if strings.Join(got, "|") != strings.Join(c.want, "|") || rest != c.rest {
				t.Fatalf("got %q rest %q", got, rest)
			}
		})
	}
}

func TestAStreamCutAnywhereYieldsTheSameEvents(t *testing.T) {
	for _, c := range streams {
		want, _ := events(c.stream)
		check := func(how string, pieces ...string) {
			got, rest := events(pieces...)
			if strings.Join(got, "|") != strings.Join(want, "|") || strings.TrimLeft(rest, "\r\n") != strings.TrimLeft(c.rest, "\r\n") {
				t.Errorf("%s, %s: got %q rest %q, want %q rest %q", c.name, how, got, rest, want, c.rest)
			}
		}
		for i := range c.stream {
			check(fmt.Sprintf("cut at %d", i), c.stream[:i], c.stream[i:])
		}
		check("cut at every byte", strings.Split(c.stream, "")...)
	}
}

func TestAnEventIsTakenFromTheBuffer(t *testing.T) {
	buf := []byte("event: x\ndata: abc\n\nnext")
	if n := testing.AllocsPerRun(100, func() { NextEvent(buf) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
	ev, n := NextEvent(buf)
	if n != len(buf)-len("next") || &ev.Data[0] != &buf[15] {
		t.Fatal("the data is a copy")
	}
	joined := []byte("data: a\ndata: b\n\n")
	before := string(joined)
	if ev, _ = NextEvent(joined); string(ev.Data) != "a\nb" || string(joined) != before {
		t.Fatalf("joining wrote into the buffer: %q", joined)
	}
}
