package cli

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/api"
	"github.com/missionopsai/foundry/internal/gateway"
	"github.com/missionopsai/foundry/internal/gateway/ledger"
	"github.com/spf13/cobra"
)

func (a *app) route() *cobra.Command {
	var org, model, class, endpoint, features string
	explain := &cobra.Command{
		Use: "explain", Short: "Explain where a request may go, without calling anything", Args: exactly(),
		Example: "  foundry route explain --org st-mary --model routine --data-class confidential",
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{"organisation": {org}, "model": {model}, "class": {class}, "endpoint": {endpoint}, "features": {features}}
			var e gateway.Explanation
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/route?"+q.Encode(), nil, &e); err != nil {
				return err
			}
			return a.print(e, func(w io.Writer) {
				fmt.Fprintln(w, strings.Join(e.Text, "\n"))
				if len(e.Order) > 0 {
					fmt.Fprintln(w, "\nTried in this order:")
				}
				for i, s := range e.Order {
					note := ""
					if s.Translated {
						note = ", translated"
					}
					fmt.Fprintf(w, "  %d. %s/%s (circuit %s%s)\n", i+1, s.Provider, s.Model, s.Circuit, note)
				}
				for _, f := range e.Fallbacks {
					fmt.Fprintln(w, "\n"+fallbackText(f))
				}
			})
		},
	}
	fl := explain.Flags()
	fl.StringVar(&org, "org", daemonDefaultOrg, "organisation")
	fl.StringVar(&model, "model", "", "logical model")
	fl.StringVar(&class, "data-class", "", "data class of the request (default: the organisation's highest)")
	fl.StringVar(&endpoint, "endpoint", "", "endpoint (default /v1/chat/completions)")
	fl.StringVar(&features, "features", "", "comma-separated fields that make a provider fetch, store or call others")
	_ = explain.MarkFlagRequired("model")
	return group("route", "Where requests may go", explain)
}

// fallbackText says what it costs that the fleet's own models are away.
func fallbackText(f ledger.FallbackRow) string {
	span := "is away since " + f.Began.UTC().Format(time.DateTime) + " UTC"
	if f.Ended != nil {
		span = "was away from " + f.Began.UTC().Format(time.DateTime) + " to " + f.Ended.UTC().Format(time.DateTime) + " UTC"
	}
	var cost []string
	for _, a := range f.Cost {
		cost = append(cost, ledger.Money(a.Nano, a.Currency))
	}
	return fmt.Sprintf("%s %s: %d requests went elsewhere and cost %s, against nothing at home.", f.Provider, span, f.Requests, strings.Join(cost, ", "))
}

// period is the flags that bound a listing in time.
type period struct{ from, to string }

func (p *period) add(c *cobra.Command) {
	c.Flags().StringVar(&p.from, "from", "", "from this day or moment")
	c.Flags().StringVar(&p.to, "to", "", "up to this day or moment")
}

func (p *period) query(q url.Values) error {
	for name, text := range map[string]string{"from": p.from, "to": p.to} {
		if text == "" {
			continue
		}
		t, err := parseMoment(text)
		if err != nil {
			return err
		}
		if name == "from" && len(text) == len(time.DateOnly) {
			t = t.AddDate(0, 0, -1) // a day's beginning is meant
		}
		q.Set(name, t.Format(time.RFC3339))
	}
	return nil
}

func (a *app) request() *cobra.Command {
	var org, model, provider, state, after string
	var limit int
	var when period
	list := &cobra.Command{
		Use: "list", Short: "List requests, newest first", Args: exactly(), Example: "  foundry request list --org st-mary --state unknown --limit 20",
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch state { // as one word
			case "unknown":
				state = ledger.StateUnknown
			case "in-flight":
				state = ledger.StateInFlight
			}
			q := url.Values{"organisation": {org}, "model": {model}, "provider": {provider}, "state": {state}, "limit": {strconv.Itoa(limit)}, "after": {after}}
			if err := when.query(q); err != nil {
				return err
			}
			var out api.Requests
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/requests?"+q.Encode(), nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				fmt.Fprintln(w, "ID\tTIME\tMODEL\tPROVIDER\tWHERE\tCLASS\tSTATE\tTOKENS\tCOST\tTOOK")
				for _, r := range out.Requests {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d+%d\t%s\t%s\n", r.ID, r.At.Local().Format(time.DateTime), r.Model, r.Provider, r.Jurisdiction,
						r.Class, r.State, r.InputTokens, r.OutputTokens, ledger.Money(r.CostNano, r.Currency), r.Latency.Round(time.Millisecond))
				}
				if out.Next != "" {
					fmt.Fprintf(w, "\nMore: --after %s\n", out.Next)
				}
			})
		},
	}
	fl := list.Flags()
	fl.StringVar(&org, "org", "", "only this organisation")
	fl.StringVar(&model, "model", "", "only this logical model")
	fl.StringVar(&provider, "provider", "", "only this provider")
	fl.StringVar(&state, "state", "", "only this state: ok, in-flight, unknown, upstream-error, timeout, client-gone, stream-broken, shed, rejected or failed")
	fl.StringVar(&after, "after", "", "the page after this cursor")
	fl.IntVar(&limit, "limit", 50, "how many, at most 500")
	when.add(list)
	show := &cobra.Command{
		Use: "show ID", Short: "Show a request and why it went where it went", Args: exactly("ID"), Example: "  foundry request show req_…",
		RunE: func(cmd *cobra.Command, args []string) error {
			var r api.Request
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/requests/"+url.PathEscape(args[0]), nil, &r); err != nil {
				return err
			}
			return a.print(r, func(w io.Writer) { describeRequest(w, r) })
		},
	}
	return group("request", "What was asked, where it went and why", list, show)
}

func describeRequest(w io.Writer, r api.Request) {
	fmt.Fprintf(w, "Request\t%s\nTime\t%s\nModel\t%s (%s)\nData class\t%s\n", r.ID, r.At.Local().Format(time.DateTime), r.Model, r.Tier, r.Class)
	fmt.Fprintf(w, "Answered by\t%s/%s in %s\nState\t%s, status %d\n", r.Provider, r.ProviderModel, r.Jurisdiction, r.State, r.Status)
	fmt.Fprintf(w, "Tokens\t%d in, %d out\nCost\t%s\nTook\t%s (first token %s)\n", r.InputTokens, r.OutputTokens, ledger.Money(r.CostNano, r.Currency),
		r.Latency.Round(time.Microsecond), r.FirstToken.Round(time.Microsecond))
	for i, t := range r.Tries {
		fmt.Fprintf(w, "Try %d\t%s: %d %s, %s\n", i+1, t.Provider, t.Status, t.Reason, t.Duration.Round(time.Microsecond))
	}
	if len(r.Text) > 0 {
		fmt.Fprintf(w, "\n%s\n", strings.Join(r.Text, "\n"))
	}
}

func (a *app) usage() *cobra.Command {
	var org, by string
	var when period
	c := &cobra.Command{
		Use: "usage", Short: "Usage and cost", Args: exactly(), Example: "  foundry usage --by model --from 2026-11-01",
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{"organisation": {org}, "group_by": {by}}
			if err := when.query(q); err != nil {
				return err
			}
			var out []ledger.UsageRow
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/usage?"+q.Encode(), nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				fmt.Fprintf(w, "%s\tREQUESTS\tERRORS\tREFUSED\tUNKNOWN\tTOKENS IN\tTOKENS OUT\tCOST\n", strings.ToUpper(by))
				for _, r := range out {
					fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\n", orDash(r.Group), r.Requests, r.Errors, r.Refusals, r.Unknown, r.InputTokens, r.OutputTokens, ledger.Money(r.CostNano, r.Currency))
				}
			})
		},
	}
	c.Flags().StringVar(&org, "org", "", "only this organisation")
	c.Flags().StringVar(&by, "by", "day", "day, hour, model, organisation, jurisdiction, provider or key")
	when.add(c)
	return c
}

func (a *app) transfers() *cobra.Command {
	var org, after string
	var limit int
	var when period
	c := &cobra.Command{
		Use: "transfers", Short: "The register of transfers out of the EEA", Args: exactly(), Example: "  foundry transfers --org st-mary --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{"organisation": {org}, "limit": {strconv.Itoa(limit)}, "after": {after}}
			if err := when.query(q); err != nil {
				return err
			}
			var out api.Transfers
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/transfers?"+q.Encode(), nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				fmt.Fprintln(w, "REQUEST\tTIME\tPROVIDER\tPROCESSED IN\tCONTROLLED FROM\tCLASS\tSAFEGUARD")
				for _, t := range out.Transfers {
					fmt.Fprintf(w, "%s\t%s\t%s/%s\t%s\t%s\t%s\t%s\n", t.ID, t.At.Local().Format(time.DateTime), t.Provider, t.ProviderModel, t.Destination, t.Controller, t.Class, orDash(t.Safeguard))
				}
				if out.Next != "" {
					fmt.Fprintf(w, "\nMore: --after %s\n", out.Next)
				}
			})
		},
	}
	c.Flags().StringVar(&org, "org", "", "only this organisation")
	c.Flags().StringVar(&after, "after", "", "the page after this cursor")
	c.Flags().IntVar(&limit, "limit", 50, "how many, at most 500")
	when.add(c)
	return c
}

func (a *app) budget() *cobra.Command {
	var org, key, per, amount string
	var alarm int
	set := &cobra.Command{
		Use: "set", Short: "Set a budget: a hard limit on spending", Args: exactly(),
		Example: "  foundry budget set --org st-mary --period month --limit 250.00",
		RunE: func(cmd *cobra.Command, _ []string) error {
			in := map[string]any{"organisation": org, "key": key, "period": per, "limit": amount, "alarm_percent": alarm}
			var b ledger.Budget
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/budgets", in, &b); err != nil {
				return err
			}
			return a.print(b, func(w io.Writer) {
				fmt.Fprintf(w, "Budget %s: %s per %s.\n", b.ID, ledger.Money(b.LimitNano, b.Currency), b.Period)
			})
		},
	}
	fl := set.Flags()
	fl.StringVar(&org, "org", daemonDefaultOrg, "organisation")
	fl.StringVar(&key, "key", "", "id of one key (default: the whole organisation)")
	fl.StringVar(&per, "period", "month", "day, month or total")
	fl.StringVar(&amount, "limit", "", "amount in the ledger's currency, e.g. 250.00")
	fl.IntVar(&alarm, "alarm", 80, "percentage at which an alarm is raised")
	_ = set.MarkFlagRequired("limit")
	list := &cobra.Command{
		Use: "list", Short: "List budgets and what is spent", Args: exactly(), Example: "  foundry budget list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out []ledger.BudgetRow
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/budgets", nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				fmt.Fprintln(w, "ID\tORGANISATION\tKEY\tPERIOD\tLIMIT\tSPENT\tLEASED\tALARM")
				for _, b := range out {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", b.ID, b.Organisation, orDash(b.Key), b.Period, ledger.Money(b.LimitNano, b.Currency),
						ledger.Money(b.SpentNano, b.Currency), ledger.Money(b.LeasedNano, b.Currency), yesNo(b.Alarmed))
				}
			})
		},
	}
	remove := &cobra.Command{
		Use: "remove ID", Short: "Remove a budget", Args: exactly("ID"), Example: "  foundry budget remove 0199…",
		RunE: func(cmd *cobra.Command, args []string) error {
			var b ledger.BudgetRow
			if err := a.call(cmd.Context(), http.MethodDelete, "/api/v1/budgets/"+url.PathEscape(args[0]), nil, &b); err != nil {
				return err
			}
			return a.print(b, func(w io.Writer) { fmt.Fprintf(w, "Budget %s is removed.\n", b.ID) })
		},
	}
	return group("budget", "Limits on spending", set, list, remove)
}
