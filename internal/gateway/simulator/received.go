package simulator

import (
	"net/http"
	"time"
)

// Received is a snapshot of one request as it arrived and of how its answer
// went. Gone and Done are signals to wait on; GoneAt, Status and Sent are as
// of the snapshot.
type Received struct {
	At       time.Time
	Method   string
	Path     string
	RawQuery string
	Host     string
	Header   http.Header
	Body     []byte
	Fault    string // the fault that was applied, in its textual form; "" if none

	Status int   // of the answer; 0 before its header
	Sent   int64 // bytes of the answer's body handed to the connection

	Gone   <-chan struct{} // closed when the client goes away before the answer is complete
	GoneAt time.Time       // when that was noticed; zero if it was not
	Done   <-chan struct{} // closed when the answer is over, whichever way
}
