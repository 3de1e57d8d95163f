package cli

import (
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/missionopsai/foundry/internal/incident"
	"github.com/missionopsai/foundry/internal/problem"
	"github.com/spf13/cobra"
)

func (a *app) incidentOpen() *cobra.Command {
	var category, mode, scenario, started, detected, words, follows string
	var lost, nodes, functions, clients []string
	c := &cobra.Command{
		Use: "open TITLE", Short: "Open an incident", Args: exactly("TITLE"),
		Long: `Opens an incident. Name what is lost as the plan does: which functions are down,
which clients they serve and which clocks run follows from the plan in force.
A loss that the fleet confirms opens one by itself.`,
		Example: `  foundry incident open "node-1 does not answer" --lost node-1
  foundry incident open "Somebody signed in from where nobody is" --category security-incident --node node-2 --detected 2026-11-23T02:40:00Z`,
		RunE: func(cmd *cobra.Command, args []string) error {
			in := map[string]any{"title": args[0]}
			for k, v := range map[string]string{"category": category, "mode": mode, "scenario": scenario, "words": words, "follows": follows} {
				if v != "" {
					in[k] = v
				}
			}
			for k, v := range map[string][]string{"lost": lost, "nodes": nodes, "functions": functions, "clients": clients} {
				if len(v) > 0 {
					in[k] = v
				}
			}
			if err := instants(in, map[string][2]string{"started": {"started_at", started}, "detected": {"detected_at", detected}}); err != nil {
				return err
			}
			var b incident.Brief
			if err := a.call(cmd.Context(), http.MethodPost, "/api/v1/incidents", in, &b); err != nil {
				return err
			}
			return a.print(b, func(w io.Writer) { showBrief(w, b) })
		},
	}
	f := c.Flags()
	f.StringVar(&category, "category", "", "outage, security-incident, personal-data-breach, supplier-loss or person-away; default: by the scenario, or outage")
	f.StringVar(&mode, "mode", "", "real, desktop, sandbox or live; default real")
	f.StringVar(&scenario, "scenario", "", "of the plan; default: the one that loses what is lost")
	f.StringArrayVar(&lost, "lost", nil, "a node, site, supplier, person or function of the plan that is lost")
	f.StringArrayVar(&nodes, "node", nil, "a node that it has reached")
	f.StringArrayVar(&functions, "function", nil, "a function that is down")
	f.StringArrayVar(&clients, "client", nil, "a client that it touches")
	f.StringVar(&started, "started", "", "when it began, as 2026-11-23T02:40:00Z; default: when it was noticed")
	f.StringVar(&detected, "detected", "", "when it was noticed; default: now")
	f.StringVar(&words, "words", "", "what is known")
	f.StringVar(&follows, "follows", "", "an incident that this one goes on from")
	return c
}

func (a *app) incidentPhase() *cobra.Command {
	var words string
	c := &cobra.Command{
		Use: "phase ID PHASE", Short: "Go on to the next phase: containment, investigation, remediation, review", Args: exactly("ID", "PHASE"),
		Long:    "Phases follow each other; none is skipped and none comes back. What keeps one from\nending is said.",
		Example: "  foundry incident phase latest containment\n  foundry incident phase inc-20261123-k3x9qa review --words 'All is as it was.'",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.say(cmd, args[0], "phase", map[string]any{"to": args[1], "words": words})
		},
	}
	c.Flags().StringVar(&words, "words", "", "why now")
	return c
}

func (a *app) incidentRole() *cobra.Command {
	var words string
	c := &cobra.Command{
		Use: "role ID ROLE WHO", Short: "Give somebody a role: lead, deputy, scribe, communications", Args: exactly("ID", "ROLE", "WHO"),
		Long:    "WHO is a person of the plan, or a principal such as person:0190…; - for nobody any more.\nClocks that run out are told to roles.",
		Example: "  foundry incident role latest lead anna\n  foundry incident role latest scribe - --words 'went home'",
		RunE: func(cmd *cobra.Command, args []string) error {
			who := args[2]
			if who == "-" {
				return a.say(cmd, args[0], "role", map[string]any{"role": args[1], "words": words})
			}
			return a.say(cmd, args[0], "role", map[string]any{"role": args[1], "who": who, "words": words})
		},
	}
	c.Flags().StringVar(&words, "words", "", "why")
	return c
}

func (a *app) incidentNote() *cobra.Command {
	var about int
	c := &cobra.Command{
		Use: "note ID WORDS", Short: "Write something down, or set an entry right", Args: exactly("ID", "WORDS"),
		Example: "  foundry incident note latest 'The supplier has a ticket: 4711.'\n  foundry incident note latest 'It was node-2.' --about 7",
		RunE: func(cmd *cobra.Command, args []string) error {
			body := map[string]any{"words": args[1]}
			if about != 0 {
				body["about"] = about
			}
			return a.say(cmd, args[0], "note", body)
		},
	}
	c.Flags().IntVar(&about, "about", 0, "the entry that it sets right")
	return c
}

func (a *app) incidentSignal() *cobra.Command {
	var source, from, subject, at string
	var ok bool
	c := &cobra.Command{
		Use: "signal ID WORDS", Short: "Record an observation", Args: exactly("ID", "WORDS"),
		Long:    "Two signals of different kinds, from observers that do not depend on each other,\nconfirm an incident.",
		Example: "  foundry incident signal latest 'no route to host' --source ssh --from node-2 --subject node-1\n  foundry incident signal latest 'the status page is green' --source status-page --from hetzner --ok",
		RunE: func(cmd *cobra.Command, args []string) error {
			body := map[string]any{"words": args[1], "source": source, "from": from, "subject": subject, "ok": ok}
			if err := instants(body, map[string][2]string{"at": {"seen_at", at}}); err != nil {
				return err
			}
			return a.say(cmd, args[0], "signal", body)
		},
	}
	c.Flags().StringVar(&source, "source", "", "what kind of observation: https, ssh, peer, status-page, report, …")
	c.Flags().StringVar(&from, "from", "", "who saw it: a node, a supplier, a person of the plan")
	c.Flags().StringVar(&subject, "subject", "", "what it is about")
	c.Flags().StringVar(&at, "at", "", "when it was seen; default: now")
	c.Flags().BoolVar(&ok, "ok", false, "it speaks against a loss")
	return c
}

func (a *app) incidentFact() *cobra.Command {
	var of, at, words string
	var evidence []string
	c := &cobra.Command{
		Use: "fact ID FACT", Short: "Record something that was so: it ends a clock or opens a gate", Args: exactly("ID", "FACT"),
		Long: `FACT is one of confirmation, scope-known, containment, root-cause, compromise, lost,
restored, restored-all, acknowledged, awareness, recoverable-point, recovered-point,
start and unfounded. What ends a clock names what shows it: entry:7,
vault:SHA256, observation:ID or receipt:ID.`,
		Example: "  foundry incident fact latest confirmation --evidence entry:2 --evidence entry:3\n  foundry incident fact latest restored --of gateway --evidence observation:9f2 --at 2026-11-23T03:12:00Z",
		RunE: func(cmd *cobra.Command, args []string) error {
			body := map[string]any{"fact": args[1], "of": of, "evidence": evidence, "words": words}
			if err := instants(body, map[string][2]string{"at": {"at", at}}); err != nil {
				return err
			}
			return a.say(cmd, args[0], "fact", body)
		},
	}
	c.Flags().StringVar(&of, "of", "", "the function, client or person that it is about")
	c.Flags().StringVar(&at, "at", "", "when it was so; default: now")
	c.Flags().StringArrayVar(&evidence, "evidence", nil, "what shows it")
	c.Flags().StringVar(&words, "words", "", "in a sentence")
	return c
}

func (a *app) incidentScope() *cobra.Command {
	var nodes, functions, clients []string
	var since, words string
	c := &cobra.Command{
		Use: "scope ID", Short: "Say what it has also reached; what was reached stays reached", Args: exactly("ID"),
		Example: "  foundry incident scope latest --function billing --client acme --words 'the same disk'\n  foundry incident scope latest --node node-2 --since 2026-11-23T02:40:00Z",
		RunE: func(cmd *cobra.Command, args []string) error {
			body := map[string]any{"nodes": nodes, "functions": functions, "clients": clients, "words": words}
			if err := instants(body, map[string][2]string{"since": {"since", since}}); err != nil {
				return err
			}
			return a.say(cmd, args[0], "scope", body)
		},
	}
	c.Flags().StringArrayVar(&nodes, "node", nil, "a node that it has reached")
	c.Flags().StringArrayVar(&functions, "function", nil, "a function that is down")
	c.Flags().StringArrayVar(&clients, "client", nil, "a client that it touches")
	c.Flags().StringVar(&since, "since", "", "when it reached them; default: from the start")
	c.Flags().StringVar(&words, "words", "", "how that is known")
	return c
}

func (a *app) incidentAct() *cobra.Command {
	var target, outcome, words string
	c := &cobra.Command{
		Use: "act ID ACT", Short: "Record something that was done", Args: exactly("ID", "ACT"),
		Long:    "An act that destroys, such as node.wipe, is refused before what it destroys was\ncaptured, and while a legal hold is on.",
		Example: "  foundry incident act latest service.stop --target gateway@node-1 --outcome done --words 'systemctl stop foundry'",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.say(cmd, args[0], "act", map[string]any{"act": args[1], "target": target, "outcome": outcome, "words": words})
		},
	}
	c.Flags().StringVar(&target, "target", "", "what it was done to")
	c.Flags().StringVar(&outcome, "outcome", "", "what came of it")
	c.Flags().StringVar(&words, "words", "", "how")
	return c
}

func (a *app) incidentDecide() *cobra.Command {
	var target string
	var options []string
	var needs int
	c := &cobra.Command{
		Use: "decide ID ABOUT WORDS", Short: "Record a decision; one that opens a gate waits for approval", Args: exactly("ID", "ABOUT", "WORDS"),
		Long: `These decisions open a gate, and count when as many different people have approved
as the plan asks for: restore, restore-before-cause, wipe, lift-hold, no-isolation,
notice, no-notice, no-plan-change, close, unfounded. Any other stands by itself.`,
		Example: "  foundry incident decide latest restore-before-cause 'The disk is dead; its cause can wait.'\n  foundry incident decide latest wipe 'It is captured.' --target node-1 --option 'keep it apart' --needs 2",
		RunE: func(cmd *cobra.Command, args []string) error {
			body := map[string]any{"about": args[1], "words": args[2], "target": target, "options": options}
			if needs > 0 {
				body["needs"] = needs
			}
			return a.say(cmd, args[0], "decision", body)
		},
	}
	c.Flags().StringVar(&target, "target", "", "what it is about: a node, a function, a notice")
	c.Flags().StringArrayVar(&options, "option", nil, "what else there was")
	c.Flags().IntVar(&needs, "needs", 0, "approvals, where it needs more than the plan asks for")
	return c
}

func (a *app) incidentApprove() *cobra.Command {
	var reject bool
	var words string
	c := &cobra.Command{
		Use: "approve ID ENTRY", Short: "Approve or reject a decision", Args: exactly("ID", "ENTRY"),
		Long:    "ENTRY is the number of the decision. Where the plan asks for more than one person,\neach signs in as themselves; nobody counts twice.",
		Example: "  foundry incident approve latest 12\n  foundry incident approve latest 12 --reject --words 'The capture was not read again.'",
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := number("ENTRY", args[1])
			if err != nil {
				return err
			}
			return a.say(cmd, args[0], "approval", map[string]any{"of": n, "approve": !reject, "words": words})
		},
	}
	c.Flags().BoolVar(&reject, "reject", false, "reject it, and say why")
	c.Flags().StringVar(&words, "words", "", "why")
	return c
}

func (a *app) incidentAssess() *cobra.Command {
	var personal, controller, processor bool
	var risk, aware, categories, subjects string
	var regimes []string
	c := &cobra.Command{
		Use: "assess ID WORDS", Short: "Say whether personal data are in it: that starts the regulator's clock", Args: exactly("ID", "WORDS"),
		Long: `Whoever decides about the data is their controller and tells the authority within
72 hours of knowing (GDPR article 33); whoever holds them for a client is a processor
and tells the client. The clock starts when it was known, not when it was assessed.`,
		Example: "  foundry incident assess latest 'No data were on that disk.'\n  foundry incident assess latest 'Prompts of one client could be read.' --personal --processor --risk unknown --regime EU --aware 2026-11-23T02:40:00Z",
		RunE: func(cmd *cobra.Command, args []string) error {
			if !personal && risk == "" {
				risk = "unlikely"
			}
			if personal && risk == "" {
				risk = "unknown"
			}
			body := map[string]any{"words": args[1], "personal_data": personal, "controller": controller, "processor": processor, "risk": risk, "regimes": regimes, "categories": categories, "subjects": subjects}
			if err := instants(body, map[string][2]string{"aware": {"aware_at", aware}}); err != nil {
				return err
			}
			return a.say(cmd, args[0], "assessment", body)
		},
	}
	f := c.Flags()
	f.BoolVar(&personal, "personal", false, "personal data are in it")
	f.BoolVar(&controller, "controller", false, "we decide about some of them")
	f.BoolVar(&processor, "processor", false, "we hold some for clients")
	f.StringVar(&risk, "risk", "", "unknown, unlikely, risk or high-risk")
	f.StringArrayVar(&regimes, "regime", nil, "UK or EU")
	f.StringVar(&aware, "aware", "", "since when it is known; default: now")
	f.StringVar(&categories, "categories", "", "which kinds of data")
	f.StringVar(&subjects, "subjects", "", "about how many people")
	return c
}

func (a *app) incidentQuarantine() *cobra.Command {
	var at, until, how string
	c := &cobra.Command{
		Use: "quarantine ID NODE STEP", Short: "Record that a node is to be cut off, is, or is no longer: asked, done, lifted", Args: exactly("ID", "NODE", "STEP"),
		Long:    "What a recovery's step isolate has cut off opens itself once it is recorded as lifted.\nBefore that it has to be captured or contained, and lift-quarantine decided about the\nnode and approved.",
		Example: "  foundry incident quarantine latest node-2 asked\n  foundry incident quarantine latest node-2 done --how 'nft table quarantine' --until 2026-11-24T09:00:00Z\n  foundry incident decide latest lift-quarantine 'Installed anew from a clean image.' --target node-2\n  foundry incident quarantine latest node-2 lifted --how 'installed anew'",
		RunE: func(cmd *cobra.Command, args []string) error {
			body := map[string]any{"node": args[1], "step": args[2], "how": how}
			if err := instants(body, map[string][2]string{"at": {"at", at}, "until": {"until", until}}); err != nil {
				return err
			}
			return a.say(cmd, args[0], "quarantine", body)
		},
	}
	c.Flags().StringVar(&at, "at", "", "when; default: now")
	c.Flags().StringVar(&until, "until", "", "when somebody looks at it again")
	c.Flags().StringVar(&how, "how", "", "what was done, and how that is known")
	return c
}

func (a *app) incidentHold() *cobra.Command {
	var lift bool
	c := &cobra.Command{
		Use: "hold ID WORDS", Short: "Put everything about an incident under a legal hold, or lift it", Args: exactly("ID", "WORDS"),
		Long:    "WORDS say who asks for it and why. To lift one, decide about lift-hold and have that\napproved first. A hold outlives the incident.",
		Example: "  foundry incident hold latest 'Counsel asks for it: matter 17.'\n  foundry incident hold latest 'The matter is settled.' --lift",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.say(cmd, args[0], "hold", map[string]any{"on": !lift, "words": args[1]})
		},
	}
	c.Flags().BoolVar(&lift, "lift", false, "lift it")
	return c
}

func (a *app) incidentAction() *cobra.Command {
	var title, owner, due, done, shown, moved, source string
	c := &cobra.Command{
		Use: "action ID ACTION", Short: "Record what is left to be done, by whom and until when; again: change it", Args: exactly("ID", "ACTION"),
		Example: "  foundry incident action latest A1 --title 'Two relays' --owner ops --due 2026-12-14T12:00:00Z\n  foundry incident action latest A1 --title 'Two relays' --owner ops --due 2026-12-14T12:00:00Z --done 2026-12-01T10:00:00Z --shown 'commit 4f2a'",
		RunE: func(cmd *cobra.Command, args []string) error {
			body := map[string]any{"id": args[1], "title": title, "owner": owner, "shown_by": shown, "moved": moved, "source": source}
			if err := instants(body, map[string][2]string{"due": {"due", due}, "done": {"done_at", done}}); err != nil {
				return err
			}
			return a.say(cmd, args[0], "action", body)
		},
	}
	f := c.Flags()
	f.StringVar(&title, "title", "", "what has to be done")
	f.StringVar(&owner, "owner", "", "who does it")
	f.StringVar(&due, "due", "", "until when")
	f.StringVar(&done, "done", "", "when it was done")
	f.StringVar(&shown, "shown", "", "what shows that it is done")
	f.StringVar(&moved, "moved", "", "why its date is put off")
	f.StringVar(&source, "source", "", "the gap that it closes")
	return c
}

func (a *app) incidentReview() *cobra.Command {
	var held, cause, well, badly, lessons, none string
	var attended []string
	c := &cobra.Command{
		Use: "review ID", Short: "Record the review: cause, what went well and badly, lessons", Args: exactly("ID"),
		Example: "  foundry incident review latest --attended lead --attended deputy --cause 'a dead disk' --went-well 'seen in 30 s' --went-badly 'nobody had the key' --lessons 'two keys'",
		RunE: func(cmd *cobra.Command, args []string) error {
			body := map[string]any{"attended": attended, "cause": cause, "went_well": well, "went_badly": badly, "lessons": lessons, "no_actions": none}
			if err := instants(body, map[string][2]string{"held": {"held_at", held}}); err != nil {
				return err
			}
			return a.say(cmd, args[0], "review", body)
		},
	}
	f := c.Flags()
	f.StringVar(&held, "held", "", "when; default: now")
	f.StringArrayVar(&attended, "attended", nil, "a role or a person of the plan")
	f.StringVar(&cause, "cause", "", "why it happened")
	f.StringVar(&well, "went-well", "", "what went well")
	f.StringVar(&badly, "went-badly", "", "what went badly")
	f.StringVar(&lessons, "lessons", "", "what was learnt")
	f.StringVar(&none, "no-actions", "", "why nothing has to change")
	return c
}

func (a *app) incidentRevision() *cobra.Command {
	return &cobra.Command{
		Use: "plan ID HASH WORDS", Short: "Name the revision of the plan that cites this incident", Args: exactly("ID", "HASH", "WORDS"),
		Example: "  foundry incident plan latest 9f2c… 'A second relay; the disk is watched.'",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.say(cmd, args[0], "plan-revision", map[string]any{"hash": args[1], "words": args[2]})
		},
	}
}

func (a *app) incidentClose() *cobra.Command {
	var words string
	c := &cobra.Command{
		Use: "close ID", Short: "Close an incident after its review; what is missing is said", Args: exactly("ID"),
		Long:    "Closing stops no clock: those that matter have to be over first. Actions, notes and\nlegal holds may still be written afterwards.",
		Example: "  foundry incident close latest --words 'Reviewed on Monday.'",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.say(cmd, args[0], "closed", map[string]any{"words": words})
		},
	}
	c.Flags().StringVar(&words, "words", "", "anything that is left to be said")
	return c
}

func (a *app) incidentNotice() *cobra.Command {
	return group("notice", "Tell clients, the authority and others, and record how far that came", a.noticeDraft(), a.noticeSend(), a.noticeRecord())
}

func (a *app) noticeDraft() *cobra.Command {
	var to, audience, locale, text string
	var update, breach bool
	var fields []string
	c := &cobra.Command{
		Use: "draft ID NOTICE", Short: "Write a notice, or write it anew before it is sent", Args: exactly("ID", "NOTICE"),
		Long: `NOTICE is an id of your own, the same through all steps. What a notice must say
follows from whom it tells: a client the nature, data-affected, remediation and contact;
the authority what GDPR article 33(3) asks for; and what the plan asks for besides.`,
		Example: "  foundry incident notice draft latest n1 --to acme --field nature='The gateway is down.' --field data-affected='None.' --field remediation='It is restored on node-2.' --field contact='ops@example.eu'",
		RunE: func(cmd *cobra.Command, args []string) error {
			said := map[string]string{}
			for _, f := range fields {
				name, value, ok := strings.Cut(f, "=")
				if !ok {
					return problem.New(problem.Invalid, "usage", fmt.Sprintf("%q is no field.", f)).WithField("--field").WithMend("Write name=text.")
				}
				said[name] = value
			}
			body := map[string]any{"notice": args[1], "step": "drafted", "audience": audience, "to": to, "update": update, "breach": breach, "locale": locale, "text": text}
			if len(said) > 0 {
				body["fields"] = said
			}
			return a.say(cmd, args[0], "communication", body)
		},
	}
	f := c.Flags()
	f.StringVar(&to, "to", "", "a client or person of the plan; UK or EU for the authority")
	f.StringVar(&audience, "audience", "client", "client, regulator, data-subjects or person")
	f.StringArrayVar(&fields, "field", nil, "name=text, for each that it must say")
	f.BoolVar(&update, "update", false, "it is not the first")
	f.BoolVar(&breach, "breach", false, "it tells a controller of personal data")
	f.StringVar(&locale, "locale", "", "en or de")
	f.StringVar(&text, "text", "", "instead of the template's words")
	return c
}

func (a *app) noticeSend() *cobra.Command {
	return &cobra.Command{
		Use: "send ID NOTICE", Short: "Have a notice sent, by mail or webhook, until it is taken", Args: exactly("ID", "NOTICE"),
		Long: `The recipient is looked up under their name in notify.people. The fleet tries until a
carrier has taken it; what that said is in the timeline. It goes out at least once: an
attempt whose answer was lost is shown as indeterminate, and repeated under the same id.
Where the plan asks for more than one person, decide about notice first.`,
		Example: "  foundry incident notice send latest n1\n  foundry incident decide latest notice 'It says what we know.' --target n1",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.say(cmd, args[0], "communication", map[string]any{"notice": args[1], "step": "released"})
		},
	}
}

func (a *app) noticeRecord() *cobra.Command {
	var channel, receipt, at, words string
	c := &cobra.Command{
		Use: "record ID NOTICE STEP", Short: "Record what was told by hand: sent, accepted, failed", Args: exactly("ID", "NOTICE", "STEP"),
		Long:    "For what goes by telephone, by a portal or on paper. Accepted needs a receipt: who\nanswered, a reference, a postmark.",
		Example: "  foundry incident notice record latest n1 sent --channel telephone\n  foundry incident notice record latest n1 accepted --receipt 'Frau K., 03:20' --at 2026-11-23T03:20:00Z",
		RunE: func(cmd *cobra.Command, args []string) error {
			body := map[string]any{"notice": args[1], "step": args[2], "channel": channel, "receipt": receipt, "words": words}
			if err := instants(body, map[string][2]string{"at": {"at", at}}); err != nil {
				return err
			}
			return a.say(cmd, args[0], "communication", body)
		},
	}
	c.Flags().StringVar(&channel, "channel", "", "by which way")
	c.Flags().StringVar(&receipt, "receipt", "", "what shows that it arrived")
	c.Flags().StringVar(&at, "at", "", "when; default: now")
	c.Flags().StringVar(&words, "words", "", "in a sentence")
	return c
}
