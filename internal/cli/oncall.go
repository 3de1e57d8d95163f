package cli

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/missionopsai/foundry/internal/notify"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/spf13/cobra"
)

func (a *app) oncall() *cobra.Command {
	var at string
	show := &cobra.Command{
		Use: "show", Short: "Show who is on call, and calls that nobody has taken", Args: exactly(),
		Long: "Shows who is on call, who follows, who stands in for whom, and every call that is\nopen, with what became of its messages. An indeterminate one may have arrived: its\nconfirmation was lost.",
		Example: `  foundry oncall show
  foundry oncall show --at 2026-12-24T18:00:00+01:00`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path := "/api/v1/oncall"
			if at != "" {
				t, err := instant("at", at)
				if err != nil {
					return err
				}
				path += "?" + url.Values{"at": {t.Format(time.RFC3339)}}.Encode()
			}
			var out notify.OnCall
			if err := a.call(cmd.Context(), http.MethodGet, path, nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) { describeOnCall(w, out) })
		},
	}
	show.Flags().StringVar(&at, "at", "", "an instant instead of now, as 2026-12-24T18:00:00Z")
	ack := &cobra.Command{
		Use: "ack CALL", Short: "Take a call, so that nobody else is called for it", Args: exactly("CALL"),
		Long:    "Takes a call. Until somebody does, the next person is called, and then everybody,\nagain and again. `foundry oncall show` lists the calls that are open.",
		Example: "  foundry oncall ack 0190a1b2-…",
		RunE: func(cmd *cobra.Command, args []string) error {
			var p notify.Page
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/oncall/pages/"+url.PathEscape(args[0])+"/ack", nil, &p); err != nil {
				return err
			}
			return a.print(p, func(w io.Writer) {
				fmt.Fprintf(w, "call\t%s\nfor\t%s\ntaken\t%s by %s\n", p.ID, p.Code, moment(*p.Taken), p.By)
			})
		},
	}
	return group("oncall", "Who is called when something is critical", show, a.oncallOverride(), ack)
}

func (a *app) oncallOverride() *cobra.Command {
	var from, until string
	c := &cobra.Command{
		Use: "override PERSON", Short: "Put somebody on call for a time", Args: exactly("PERSON"),
		Long: "Puts somebody on call, whoever the rota names. Of two overrides for the same time,\nthe later made one counts; so an override is taken back by another.",
		Example: `  foundry oncall override ops-2 --until 2026-12-27T09:00:00+01:00
  foundry oncall override lead --from 2026-12-24T18:00:00Z --until 2026-12-25T09:00:00Z`,
		RunE: func(cmd *cobra.Command, args []string) error {
			in := map[string]any{"person": args[0]}
			for name, text := range map[string]string{"from": from, "until": until} {
				if text == "" {
					continue
				}
				t, err := instant(name, text)
				if err != nil {
					return err
				}
				in[name] = t
			}
			var o notify.Override
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/oncall/overrides", in, &o); err != nil {
				return err
			}
			return a.print(o, func(w io.Writer) {
				fmt.Fprintf(w, "on call\t%s\nfrom\t%s\nuntil\t%s\n", o.Person, moment(o.Begins), moment(o.Ends))
			})
		},
	}
	c.Flags().StringVar(&from, "from", "", "when it begins, as 2026-12-24T18:00:00Z; default: now")
	c.Flags().StringVar(&until, "until", "", "when it ends")
	_ = c.MarkFlagRequired("until")
	return c
}

// instant reads a moment with its zone.
func instant(flag, text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, problem.New(problem.Invalid, "instant", "This is no moment.").WithField("--" + flag).WithMend("Write it with its zone: 2026-12-24T18:00:00Z or 2026-12-24T19:00:00+01:00.")
	}
	return t, nil
}

func describeOnCall(w io.Writer, out notify.OnCall) {
	if out.Now == nil {
		fmt.Fprintln(w, "Nobody is on call: no rota is configured (notify.oncall).")
	} else {
		fmt.Fprintln(w, "ON CALL\tFROM\tUNTIL\t")
		for _, s := range append([]notify.Shift{*out.Now}, out.Then...) {
			why := ""
			if s.Override {
				why = "stands in"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", s.Person, moment(s.Begins), moment(s.Ends), why)
		}
	}
	for _, p := range out.Open {
		next := "-"
		if p.Next != nil {
			next = moment(*p.Next)
		}
		fmt.Fprintf(w, "\ncall\t%s\nfor\t%s (%s)\nsince\t%s\nrounds\t%d, the next at %s\n", p.ID, p.Code, p.Severity, moment(p.Raised), p.Level, next)
		for _, n := range p.Calls {
			fmt.Fprintf(w, "  message\t%s by %s\t%s\n", n.ID, n.Channel, stateOf(n))
		}
	}
	if len(out.Open) == 0 {
		fmt.Fprintln(w, "No call is open.")
	}
}
