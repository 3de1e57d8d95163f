package wire

import "bytes"

// Event is one server-sent event.
type Event struct {
	Name []byte // of the last "event" field; nil if there is none

	// Data is the data field; nil if there is none, which is how comments
	// and bare retry or id fields show. It points into the buffer unless the
	// event has several data lines, which are then joined by newlines in a
	// slice of their own.
	Data []byte
}

// NextEvent reads the first event of buf (WHATWG HTML, "server-sent events",
// 9.2.6) and returns how many bytes it takes, its blank line and the blank
// lines before it included. Zero means that the event is not complete: call
// again with more bytes, from the same start. Lines end in LF, CRLF or CR; if
// buf is cut between the CR and the LF that end an event, the event is
// complete and the LF counts to the next one.
//
// A byte order mark at the start of the stream is the caller's to skip. What
// is left at the end of a stream without a blank line was never an event.
func NextEvent(buf []byte) (ev Event, n int) {
	i := 0
	for i < len(buf) && (buf[i] == '\n' || buf[i] == '\r') {
		i++
	}
	lines := 0
	for i < len(buf) {
		end, next := line(buf, i)
		if next == 0 {
			return Event{}, 0
		}
		if end == i {
			return ev, next
		}
		field, value := splitField(buf[i:end])
		switch string(field) {
		case "data":
			if lines++; lines == 1 {
				ev.Data = value
				break
			}
			if lines == 2 {
				ev.Data = bytes.Clone(ev.Data)
			}
			ev.Data = append(append(ev.Data, '\n'), value...)
		case "event":
			ev.Name = value
		}
		i = next
	}
	return Event{}, 0
}

// line returns the end of the line that starts at i and the start of the next;
// next is zero if the line has no end yet.
func line(buf []byte, i int) (end, next int) {
	rest := buf[i:]
	lf := bytes.IndexByte(rest, '\n')
	within := rest
	if lf >= 0 {
		within = rest[:lf]
	}
	if cr := bytes.IndexByte(within, '\r'); cr >= 0 {
		if cr+1 == lf {
			return i + cr, i + lf + 1
		}
		return i + cr, i + cr + 1
	}
	if lf < 0 {
		return 0, 0
	}
	return i + lf, i + lf + 1
}

// splitField splits a line at its first colon, with one space after it. A
// comment has an empty field.
func splitField(l []byte) (field, value []byte) {
	colon := bytes.IndexByte(l, ':')
	if colon < 0 {
		return l, l[len(l):]
	}
	field, value = l[:colon], l[colon+1:]
	if len(value) > 0 && value[0] == ' ' {
		value = value[1:]
	}
	return field, value
}
