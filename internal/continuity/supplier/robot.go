package supplier

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/problem"
)

// Robot is an account for dedicated servers at Hetzner, by its web service
// (https://robot.hetzner.com/doc/webservice/en.html): forms in, JSON out, basic
// authentication.
type Robot struct {
	Endpoint string // default https://robot-ws.your-server.de
	User     string // of the web service, not of the console
	Password config.Secret
	Client   *http.Client
	Timeout  time.Duration // of one request; 0: 15 s
	Clock    func() time.Time

	once sync.Once
	door door
}

const robotEndpoint = "https://robot-ws.your-server.de"

func (r *Robot) open() *door {
	r.once.Do(func() {
		r.door = door{who: "Hetzner Robot", base: r.Endpoint, client: r.Client, timeout: r.Timeout}
		if r.door.base == "" {
			r.door.base = robotEndpoint
		}
		if r.Clock == nil {
			r.Clock = time.Now
		}
	})
	return &r.door
}

// Check implements Machines.
func (r *Robot) Check() error {
	if err := r.open().check(); err != nil {
		return err
	}
	if r.User == "" || strings.ContainsAny(r.User, ": \t\r\n") {
		return problem.New(problem.Invalid, "supplier-user", "The user of the web service is missing or is none.").WithField("user").WithMend("Make one in Robot under Settings, Web service settings.")
	}
	_, err := r.Password.Read("password")
	return err
}

// The parts of the web service's messages that are used.
type (
	robotReset struct {
		Number int64  `json:"server_number"`
		Types  words  `json:"type"`
		Status string `json:"operating_status"`
		IP     string `json:"server_ip"`
	}
	robotError struct {
		Status   int    `json:"status"`
		Code     string `json:"code"`
		Max      int    `json:"max_request"`
		Interval int    `json:"interval"` // seconds
	}
	robotRescue struct {
		Active   bool   `json:"active"`
		Password string `json:"password"`
	}
	robotAnswer struct {
		Reset  *robotReset  `json:"reset"`
		Rescue *robotRescue `json:"rescue"`
		Error  *robotError  `json:"error"`
	}
)

// words is a list, or a single word: what a reset can be is answered as a list
// to a question, and as a word to an act.
type words []string

// UnmarshalJSON reads either.
func (w *words) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] == '"' {
		var one string
		err := json.Unmarshal(text, &one)
		*w = words{one}
		return err
	}
	return json.Unmarshal(text, (*[]string)(w))
}

// Power implements Machines. The web service tells the power of some servers only;
// of the others it says "not supported".
func (r *Robot) Power(ctx context.Context, server string) (Reading, error) {
	s, err := r.reset(ctx, server)
	if err != nil {
		return Reading{Power: Indeterminate}, err
	}
	return Reading{Power: robotPower(s.Status), Says: s.Status, At: r.Clock()}, nil
}

// robotPower reads an operating status. A word that is not known is no state.
func robotPower(status string) Power {
	switch status {
	case "shut off":
		return Off
	case "running":
		return On
	}
	return Indeterminate
}

func (r *Robot) reset(ctx context.Context, server string) (*robotReset, error) {
	if err := number(server); err != nil {
		return nil, err
	}
	a, err := r.call(ctx, http.MethodGet, "/reset/"+server, nil)
	if err != nil {
		return nil, err
	}
	if a.Reset == nil || strconv.FormatInt(a.Reset.Number, 10) != server {
		return nil, r.door.garbled(http.MethodGet)
	}
	return a.Reset, nil
}

// Act implements Machines. There is a button and no switch: pressed for long it
// takes the power away, pressed shortly it gives it. So it is pressed only while
// the server is known to stand the other way.
func (r *Robot) Act(ctx context.Context, server string, act Act) error {
	s, err := r.reset(ctx, server)
	if err != nil {
		return err
	}
	kind, ok := map[Act]string{PowerOff: "power_long", PowerOn: "power", Reset: "hw"}[act]
	if !ok {
		return problem.New(problem.Unsupported, "supplier-act", fmt.Sprintf("%.20q cannot be done to a server.", act))
	}
	if !slices.Contains(s.Types, kind) {
		return problem.New(problem.Unsupported, "supplier-act-unsupported", fmt.Sprintf("Robot cannot do this with the server %s: it offers %s.", server, strings.Join(s.Types, ", "))).
			WithMend("Have a technician do it by a manual reset, in Robot's console.").Wrap(ErrRefused)
	}
	switch p := robotPower(s.Status); {
	case act == Reset:
	case p == Indeterminate:
		return problem.New(problem.Unsupported, "supplier-power-indeterminate", fmt.Sprintf("Robot does not say how the power of the server %s stands: its button may do the opposite, and is not pressed.", server)).
			WithMend("Fence it another way, or have a technician do it.").Wrap(ErrBlind)
	case act == PowerOff && p == Off, act == PowerOn && p == On:
		return nil
	}
	a, err := r.call(ctx, http.MethodPost, "/reset/"+server, url.Values{"type": {kind}})
	if err != nil {
		return err
	}
	if a.Reset == nil {
		return r.door.garbled(http.MethodPost)
	}
	return nil
}

// Rescue has a server start into the rescue system at its next start, with the
// named keys (fingerprints of the account), where it does not already.
func (r *Robot) Rescue(ctx context.Context, server string, keys []string) error {
	if err := number(server); err != nil {
		return err
	}
	a, err := r.call(ctx, http.MethodGet, "/boot/"+server+"/rescue", nil)
	if err != nil {
		return err
	}
	if a.Rescue == nil {
		return r.door.garbled(http.MethodGet)
	}
	if a.Rescue.Active {
		return nil
	}
	// Without a key the web service makes a password and answers it: it would be
	// in the hands of whoever reads this process.
	if len(keys) == 0 {
		return problem.New(problem.Invalid, "supplier-rescue-key", "The rescue system is opened by a key, and none is named.").WithField("provision.ssh_keys").WithMend("Name the fingerprint of a key of the account.")
	}
	a, err = r.call(ctx, http.MethodPost, "/boot/"+server+"/rescue", url.Values{"os": {"linux"}, "authorized_key[]": keys})
	if err == nil && a.Rescue == nil {
		err = r.door.garbled(http.MethodPost)
	}
	return err
}

func (r *Robot) call(ctx context.Context, method, path string, form url.Values) (a robotAnswer, err error) {
	d := r.open()
	password, err := r.Password.Read("password")
	if err != nil {
		return a, err
	}
	res, text, err := d.call(ctx, request{method: method, path: path, kind: "application/x-www-form-urlencoded", body: form.Encode(),
		proof: r.User + ":" + password, authorise: func(q *http.Request) { q.SetBasicAuth(r.User, password) }})
	if err != nil {
		return a, err
	}
	bad := json.Unmarshal(text, &a)
	if res.StatusCode < 300 {
		if bad != nil {
			return robotAnswer{}, d.garbled(method)
		}
		return a, nil
	}
	code, retry := "", time.Duration(0)
	if a.Error != nil {
		code = a.Error.Code
		if a.Error.Max > 0 && a.Error.Interval > 0 {
			retry = min(time.Duration(a.Error.Interval)*time.Second/time.Duration(a.Error.Max), 5*time.Minute)
		}
	}
	return robotAnswer{}, d.refusal(method, res.StatusCode, code, retry)
}
