package patroni

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/api/v3/version"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
)

// Prefix is before every key of every Patroni in the fleet's store: what is
// Patroni's own default. Nothing of Foundry's lies there.
const Prefix = "/service/"

// leases is where it stands which lease is whose. No Patroni can write there.
const leases = "/services/patroni-leases/"

const (
	mostBody   = 512 << 10
	mostLeases = 64              // of one node at once
	longestTTL = 600             // seconds
	patience   = 2 * time.Second // of one call: Patroni asks another member after it
)

// Door is the part of etcd's interface that Patroni uses, for the keys of one
// cluster: etcd's gRPC gateway (etcd 3.5, "Why gRPC gateway") as Patroni's etcd3
// client speaks it. etcd's own gateway would act with this member's rights for
// whoever reaches it.
//
// A Patroni reads everything of its cluster and nothing else. It writes its own
// member's key, names as leader nobody but itself, and only under a lease of its
// own; what all members share any of them writes. It removes one key at a time.
type Door struct {
	Client *clientv3.Client
	Scope  string
	// Who says beside which node the Patroni at the other end stands; false: it
	// is none, or no longer. It is asked again while a watch lasts.
	Who func(*tls.ConnectionState) (node string, ok bool)
	// Doors are the addresses, host:port, of every such door of the fleet.
	Doors func(context.Context) ([]string, error)
	Log   *slog.Logger
}

// members lists the doors in the place of etcd's own, which are closed to
// Patroni.
func (d *Door) members(_ http.ResponseWriter, r *http.Request, _ string) (any, error) {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	all, err := d.Doors(ctx)
	if err != nil {
		return nil, err
	}
	type one struct {
		URLs []string `json:"clientURLs"`
	}
	out := struct {
		Members []one `json:"members"`
	}{[]one{}}
	for _, at := range all {
		out.Members = append(out.Members, one{[]string{"https://" + at}})
	}
	return out, nil
}

// refusal is an error as etcd gives it.
type refusal struct {
	code  codes.Code
	words string
}

func (r refusal) Error() string { return r.words }

var (
	errDenied    = refusal{codes.PermissionDenied, "foundry: this key is not yours"}
	errNoNode    = refusal{codes.PermissionDenied, "foundry: this certificate no longer counts here"}
	errNoLease   = refusal{codes.NotFound, "etcdserver: requested lease not found"} // as etcd says it: Patroni takes another
	errTooMany   = refusal{codes.ResourceExhausted, "foundry: too many leases"}
	errMalformed = refusal{codes.InvalidArgument, "foundry: not a request that Patroni makes"}
)

// Handler answers at the door.
func (d *Door) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /version", d.guarded(func(http.ResponseWriter, *http.Request, string) (any, error) {
		return map[string]string{"etcdserver": version.Version, "etcdcluster": version.Version}, nil
	}))
	mux.HandleFunc("POST /v3/cluster/member/list", d.guarded(d.members))
	mux.HandleFunc("POST /v3/kv/range", d.guarded(d.read))
	mux.HandleFunc("POST /v3/kv/put", d.guarded(d.put))
	mux.HandleFunc("POST /v3/kv/deleterange", d.guarded(d.remove))
	mux.HandleFunc("POST /v3/kv/txn", d.guarded(d.txn))
	mux.HandleFunc("POST /v3/lease/grant", d.guarded(d.grant))
	mux.HandleFunc("POST /v3/lease/keepalive", d.guarded(d.keep))
	mux.HandleFunc("POST /v3/watch", d.guarded(d.watch))
	return mux
}

func (d *Door) guarded(do func(http.ResponseWriter, *http.Request, string) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		node, ok := d.Who(r.TLS)
		var out any
		err := error(errNoNode)
		if ok {
			r.Body = http.MaxBytesReader(w, r.Body, mostBody)
			out, err = do(w, r, node)
		}
		if err == nil && out == nil {
			return // it was a stream
		}
		w.Header().Set("Content-Type", "application/json")
		if err != nil {
			fail := d.failure(err)
			if fail.Code == int(codes.PermissionDenied) && d.Log != nil {
				d.Log.Warn("a Patroni was refused at the door of the fleet's store", "node", node, "path", r.URL.Path, "why", fail.Message)
			}
			w.WriteHeader(httpStatus(codes.Code(fail.Code)))
			out = fail
		}
		_ = json.NewEncoder(w).Encode(out)
	}
}

// failed is the body of an error. Patroni 3.0 reads "error"; etcd since 3.6
// writes "message" only.
type failed struct {
	Error   string `json:"error"`
	Message string `json:"message"`
	Code    int    `json:"code"`
}

func (d *Door) failure(err error) failed {
	code, words := codes.Unavailable, "etcdserver: request timed out"
	var r refusal
	var e rpctypes.EtcdError
	switch {
	case errors.As(err, &r):
		code, words = r.code, r.words
	case errors.As(rpctypes.Error(err), &e):
		code, words = e.Code(), e.Error()
	case d.Log != nil:
		d.Log.Debug("the fleet's store did not answer a Patroni", "error", err)
	}
	return failed{words, words, int(code)}
}

func httpStatus(c codes.Code) int {
	switch c {
	case codes.InvalidArgument, codes.FailedPrecondition, codes.OutOfRange:
		return http.StatusBadRequest
	case codes.NotFound:
		return http.StatusNotFound
	case codes.PermissionDenied:
		return http.StatusForbidden
	case codes.ResourceExhausted:
		return http.StatusTooManyRequests
	}
	return http.StatusServiceUnavailable
}

// decode reads a request. What is not known of it is refused: it might change
// what is asked for.
func decode(r *http.Request, into any) error {
	in := json.NewDecoder(r.Body)
	in.DisallowUnknownFields()
	if err := in.Decode(into); err != nil {
		return errMalformed
	}
	if _, err := in.Token(); err != io.EOF {
		return errMalformed
	}
	return nil
}

// number is a 64-bit number, which JSON of protocol buffers writes as a string
// and reads as both.
type number int64

// UnmarshalJSON implements json.Unmarshaler.
func (n *number) UnmarshalJSON(b []byte) error {
	v, err := strconv.ParseInt(string(bytes.Trim(b, `"`)), 10, 64)
	*n = number(v)
	return err
}

// MarshalJSON implements json.Marshaler.
func (n number) MarshalJSON() ([]byte, error) {
	return strconv.AppendQuote(nil, strconv.FormatInt(int64(n), 10)), nil
}

// base is before every key of the cluster.
func (d *Door) base() string { return Prefix + d.Scope + "/" }

// mayRead says whether a range lies within the cluster.
func (d *Door) mayRead(key, end string) bool {
	if !strings.HasPrefix(key, d.base()) {
		return false
	}
	return end == "" || end > key && end <= clientv3.GetPrefixRangeEnd(d.base())
}

// shared are the keys that any member of the cluster may write (Patroni 3.0,
// patroni/dcs: AbstractDCS).
var shared = map[string]bool{"initialize": true, "config": true, "failover": true, "history": true, "sync": true, "status": true, "failsafe": true, "optime/leader": true}

// mayPut says whether a node may write a value so.
func (d *Door) mayPut(node, key, value string, lease int64) bool {
	name, ok := strings.CutPrefix(key, d.base())
	switch {
	case !ok:
		return false
	case name == "leader":
		return value == node && lease != 0
	case name == "members/"+node:
		return lease != 0
	}
	return shared[name]
}

// mayRemove says whether a node may remove a key.
func (d *Door) mayRemove(node, key string) bool {
	name, ok := strings.CutPrefix(key, d.base())
	return ok && (name == "leader" || name == "members/"+node || shared[name])
}

func (d *Door) leasePath(node string, id int64) string {
	return leases + d.Scope + "/" + node + "/" + strconv.FormatInt(id, 16)
}

// holds says whether a lease was given to this node here.
func (d *Door) holds(ctx context.Context, node string, id int64) error {
	if id == 0 {
		return nil
	}
	r, err := d.Client.Get(ctx, d.leasePath(node, id))
	if err == nil && len(r.Kvs) == 0 {
		return errNoLease
	}
	return err
}
