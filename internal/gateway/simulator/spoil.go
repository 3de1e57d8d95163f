package simulator

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"strings"
)

// spoil changes what the reply says, where the fault is about that. The
// faults about how it is sent are the exchange's.
func (x *exchange) spoil(rep *reply) {
	f := x.fault
	switch f.Name {
	case faultContentType:
		rep.header.Set("Content-Type", f.Value)
	case faultConnectionClose:
		rep.header.Set("Connection", "close")
	case faultRedirect:
		*rep = reply{status: f.Status, header: http.Header{"Location": {f.Value}}}
	case faultHTMLPage:
		*rep = htmlPage(f.Status)
	case faultEmptyBody:
		rep.body, rep.events = nil, nil
	case faultTrailingGarbage:
		x.trail(rep)
	case faultMalformed:
		malform(rep, f)
	case faultErrorEvent:
		x.errorEvent(rep)
	case faultNoDone:
		rep.events = dropClosing(rep.events)
	case faultDuplicateUsage, faultNoUsage, faultAbsurdUsage:
		// Rendered that way by the format: see usageFault.
	case faultCRLF:
		for i, e := range rep.events {
			rep.events[i].data = bytes.ReplaceAll(e.data, []byte("\n"), []byte("\r\n"))
		}
	case faultComments:
		for i, e := range rep.events {
			rep.events[i].data = append([]byte(": simulator is thinking\n\n"), e.data...)
		}
	case faultHuge:
		if f.Value == "header" {
			rep.header.Set("X-Simulator-Huge", strings.Repeat("x", int(f.Size)))
		}
	case faultGzip:
		compress(rep)
	}
}

func (x *exchange) trail(rep *reply) {
	garbage := []byte("\x00simulated garbage } ] not json\n")
	if rep.events == nil {
		rep.body = append(rep.body, garbage...)
		return
	}
	rep.events = append(rep.events, event{data: append([]byte("data: "), garbage...)})
}

// malform breaks the JSON of the event at the fault's position.
func malform(rep *reply, f Fault) {
	if rep.events == nil {
		rep.body = append(rep.body[:len(rep.body)/2:len(rep.body)/2], "\"\\u12 oops"...)
		return
	}
	at := min(f.position(rep.events), len(rep.events)-1)
	data := bytes.TrimRight(rep.events[at].data, "\n")
	rep.events[at].data = append(data[:len(data)-2:len(data)-2], "\"\\u12 oops\n\n"...)
}

// errorEvent ends a stream at the fault's position with the vendor's error.
func (x *exchange) errorEvent(rep *reply) {
	if rep.events == nil {
		*rep = x.statusError(http.StatusInternalServerError)
		return
	}
	at := x.fault.position(rep.events)
	rep.events = append(rep.events[:at:at], x.streamError(at)...)
}

func dropClosing(events []event) []event {
	var kept []event
	for _, e := range events {
		if !e.closing {
			kept = append(kept, e)
		}
	}
	return kept
}

// compress gzips the answer; a stream is flushed after every event, as a
// compressing proxy would.
func compress(rep *reply) {
	rep.header.Set("Content-Encoding", "gzip")
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if rep.events == nil {
		_, _ = z.Write(rep.body)
		_ = z.Close()
		rep.body = b.Bytes()
		return
	}
	for i, e := range rep.events {
		_, _ = z.Write(e.data)
		_ = z.Flush()
		if i == len(rep.events)-1 {
			_ = z.Close()
		}
		rep.events[i].data = bytes.Clone(b.Bytes())
		b.Reset()
	}
}

func htmlPage(status int) reply {
	text := fmt.Sprintf("%d %s", status, http.StatusText(status))
	return reply{
		status: status,
		header: http.Header{"Content-Type": {"text/html"}, "Server": {"foundry-simulator"}},
		body: []byte("<html>\r\n<head><title>" + text + "</title></head>\r\n<body>\r\n<center><h1>" + text +
			"</h1></center>\r\n<hr><center>foundry-simulator</center>\r\n</body>\r\n</html>\r\n"),
	}
}
