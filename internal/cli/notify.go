package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/missionopsai/foundry/internal/notify"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/spf13/cobra"
)

func (a *app) notify() *cobra.Command {
	var state string
	var limit int
	list := &cobra.Command{
		Use: "list", Short: "List messages and whether they arrived", Args: exactly(),
		Long: "Lists messages, the newest first. A relay took responsibility for an accepted one;\nan indeterminate one may have been taken: its confirmation was lost. Addresses are\nnot shown: they are sealed, and wiped once the message has ended.",
		Example: `  foundry notify list
  foundry notify list --state indeterminate --limit 10`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var out []notify.Notification
			q := url.Values{"limit": {fmt.Sprint(limit)}}
			if state != "" {
				q.Set("state", state)
			}
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/notifications?"+q.Encode(), nil, &out); err != nil {
				return err
			}
			return a.print(out, func(w io.Writer) {
				fmt.Fprintln(w, "MESSAGE\tKIND\tSTATE\tATTEMPTS\tMADE\tNEXT\tANSWER")
				for _, n := range out {
					next := "-"
					if n.Next != nil && !n.Held {
						next = moment(*n.Next)
					}
					fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n", n.ID, n.Template, stateOf(n), n.Attempts, moment(n.Created), next, shortened(n.Answer, 70))
				}
			})
		},
	}
	list.Flags().StringVar(&state, "state", "", "only this state: queued, sending, accepted, indeterminate, failed or expired")
	list.Flags().IntVar(&limit, "limit", 50, "how many, at most 500")
	show := &cobra.Command{
		Use: "show MESSAGE", Short: "Show a message and every attempt to send it", Args: exactly("MESSAGE"),
		Example: "  foundry notify show 0190a1b2-…",
		RunE: func(cmd *cobra.Command, args []string) error {
			var n notify.Notification
			if err := a.call(cmd.Context(), http.MethodGet, "/api/v1/notifications/"+url.PathEscape(args[0]), nil, &n); err != nil {
				return err
			}
			return a.print(n, func(w io.Writer) { describeMessage(w, n) })
		},
	}
	retry := &cobra.Command{
		Use: "retry MESSAGE", Short: "Try a message again at once", Args: exactly("MESSAGE"),
		Long:    "Tries a message again, with the same Message-ID, so that a receiver who has it\nalready can drop the double.",
		Example: "  foundry notify retry 0190a1b2-…",
		RunE: func(cmd *cobra.Command, args []string) error {
			var n notify.Notification
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/notifications/"+url.PathEscape(args[0])+"/retry", nil, &n); err != nil {
				return err
			}
			return a.print(n, func(w io.Writer) { describeMessage(w, n) })
		},
	}
	return group("notify", "Messages to people", list, show, retry, a.notifyTest())
}

func (a *app) notifyTest() *cobra.Command {
	var to, locale string
	var wait time.Duration
	c := &cobra.Command{
		Use: "test", Short: "Send a test message", Args: exactly(),
		Long:    "Sends a test message and waits until a relay has accepted or refused it.",
		Example: "  foundry notify test --to ops@example.eu --wait 1m",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			var n notify.Notification
			if err := a.call(ctx, http.MethodPost, "/api/v1/notifications/test", map[string]any{"to": to, "locale": locale}, &n); err != nil {
				return err
			}
			if err := a.awaitMessage(ctx, &n, wait); err != nil {
				return err
			}
			if err := a.print(n, func(w io.Writer) { describeMessage(w, n) }); err != nil {
				return err
			}
			switch {
			case n.Held:
				return problem.New(problem.Unavailable, "mail-unconfigured", "No relay is configured: the message is held.").WithField("mail.relays").WithMend("See docs/guides/notifications.md.")
			case n.State != notify.Accepted:
				return problem.New(problem.Upstream, "mail-not-accepted", "No relay has accepted the message yet: "+n.Answer).WithMend("`foundry notify show " + n.ID.String() + "` tells what each relay said.")
			}
			return nil
		},
	}
	c.Flags().StringVar(&to, "to", "", "address to write to")
	c.Flags().StringVar(&locale, "locale", "en", "language: en or de")
	c.Flags().DurationVar(&wait, "wait", 30*time.Second, "how long to wait for a relay's answer")
	_ = c.MarkFlagRequired("to")
	return c
}

// awaitMessage waits until a message was tried at least once.
func (a *app) awaitMessage(ctx context.Context, n *notify.Notification, wait time.Duration) error {
	end := time.After(wait)
	for !n.Held && (n.Attempts == 0 || n.State == notify.Sending) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-end:
			return nil
		case <-time.After(200 * time.Millisecond):
		}
		if err := a.call(ctx, http.MethodGet, "/api/v1/notifications/"+n.ID.String(), nil, n); err != nil {
			return err
		}
	}
	return nil
}

func stateOf(n notify.Notification) string {
	if n.Held {
		return "held"
	}
	return string(n.State)
}

func describeMessage(w io.Writer, n notify.Notification) {
	fmt.Fprintf(w, "message\t%s\nkind\t%s\nstate\t%s\nMessage-ID\t<%s>\nrecipient\t%s (a keyed hash)\nmade\t%s\nexpires\t%s\nattempts\t%d\n",
		n.ID, n.Template, stateOf(n), n.MessageID, n.To, moment(n.Created), moment(n.Expires), n.Attempts)
	if n.Held {
		fmt.Fprintln(w, "why\tno relay is configured")
	}
	if n.Wiped {
		fmt.Fprintln(w, "content\twiped")
	}
	for _, t := range n.Log {
		fmt.Fprintf(w, "  attempt %d\t%s\t%s at %s (%s %d): %s\n", t.N, moment(t.At), t.Outcome, t.Relay, t.Stage, t.Code, t.Answer)
	}
}
