package plan

// Client is somebody served under an agreement.
type Client struct {
	Name      string   `yaml:"name" json:"name" jsonschema:"required"`
	Title     string   `yaml:"title,omitempty" json:"title,omitempty"`
	Functions []string `yaml:"functions,omitempty" json:"functions,omitempty" ref:"function"`
	Notify    Span     `yaml:"notify_within,omitempty" json:"notify_within,omitzero" jsonschema_description:"What its agreement says of notices."`
	Allows    []string `yaml:"allows,omitempty" json:"allows,omitempty" jsonschema_description:"Countries beyond home, or suppliers, that it has consented to."`
	Agreement Contract `yaml:"agreement,omitempty" json:"agreement,omitzero"`
	Source    []Source `yaml:"source,omitempty" json:"source,omitempty"`
}

// Notice is one rule of who must be told what by when.
type Notice struct {
	Name        string    `yaml:"name" json:"name" jsonschema:"required"`
	Event       string    `yaml:"event" json:"event" jsonschema:"required,enum=outage,enum=security-incident,enum=personal-data-breach,enum=vulnerability-report,enum=supplier-loss,enum=person-away"`
	To          string    `yaml:"to" json:"to" jsonschema:"required" ref:"client,person,supplier" words:"clients,regulator,reporter,staff,management,insurer" jsonschema_description:"clients, regulator, reporter, staff, management, insurer, or the name of a client, person or supplier."`
	Within      Span      `yaml:"within,omitempty" json:"within,omitzero"`
	From        string    `yaml:"from,omitempty" json:"from,omitempty" jsonschema:"enum=start,enum=detection,enum=awareness,enum=confirmation,enum=scope-known,enum=containment"`
	UpdateEvery Span      `yaml:"update_every,omitempty" json:"update_every,omitzero"`
	By          []string  `yaml:"by,omitempty" json:"by,omitempty" ref:"person" jsonschema_description:"Who sends it."`
	Channels    []Channel `yaml:"channels,omitempty" json:"channels,omitempty"`
	States      []string  `yaml:"states,omitempty" json:"states,omitempty" jsonschema_description:"What it must say: nature, data-affected, remediation, contact."`
	Law         string    `yaml:"law,omitempty" json:"law,omitempty" jsonschema_description:"Where a law asks for it, such as UK GDPR art. 33."`
	Source      []Source  `yaml:"source,omitempty" json:"source,omitempty"`
}

// Channel is a way a notice travels.
type Channel struct {
	Kind     string `yaml:"kind" json:"kind" jsonschema:"required,enum=mail,enum=telephone,enum=sms,enum=status-page,enum=post,enum=portal"`
	Function string `yaml:"function,omitempty" json:"function,omitempty" ref:"function" jsonschema_description:"The function that carries it; left out when it is outside of all that can fail here."`
	Supplier string `yaml:"supplier,omitempty" json:"supplier,omitempty" ref:"supplier"`
}

// Scenario is something that may happen.
type Scenario struct {
	Name          string   `yaml:"name" json:"name" jsonschema:"required"`
	Title         string   `yaml:"title,omitempty" json:"title,omitempty"`
	Kind          string   `yaml:"kind,omitempty" json:"kind,omitempty" jsonschema:"enum=node-loss,enum=site-loss,enum=supplier-loss,enum=person-away,enum=security,enum=premises,enum=data-loss,enum=planned"`
	Loses         []string `yaml:"loses,omitempty" json:"loses,omitempty" ref:"node,site,supplier,person,function" jsonschema_description:"Names of the nodes, sites, suppliers, people or functions that are lost."`
	Signals       []Signal `yaml:"signals,omitempty" json:"signals,omitempty" jsonschema_description:"What shows that it has happened."`
	DetectWithin  Span     `yaml:"detect_within,omitempty" json:"detect_within,omitzero"`
	ConfirmWithin Span     `yaml:"confirm_within,omitempty" json:"confirm_within,omitzero" jsonschema_description:"How long from detection until somebody has to say that it is so."`
	RTOFrom       string   `yaml:"rto_from,omitempty" json:"rto_from,omitempty" jsonschema:"enum=start,enum=detection,enum=confirmation" jsonschema_description:"What starts the clock of the recovery times."`
	Recovery      []string `yaml:"recovery,omitempty" json:"recovery,omitempty" ref:"recovery"`
	RestoreWithin Span     `yaml:"restore_within,omitempty" json:"restore_within,omitzero" jsonschema_description:"When everything is back as it was."`
	Source        []Source `yaml:"source,omitempty" json:"source,omitempty"`
}

// Signal is an observation that something is lost.
type Signal struct {
	Kind string `yaml:"kind" json:"kind" jsonschema:"required,enum=probe,enum=peer,enum=ssh,enum=status-page,enum=alarm,enum=report,enum=check-in,enum=scanner"`
	By   string `yaml:"by,omitempty" json:"by,omitempty" ref:"node,person,supplier" jsonschema_description:"Name of the node, person or supplier that gives it."`
}

// RecoveryPlan brings functions back, step by step.
type RecoveryPlan struct {
	Name      string   `yaml:"name" json:"name" jsonschema:"required"`
	Title     string   `yaml:"title,omitempty" json:"title,omitempty"`
	Functions []string `yaml:"functions,omitempty" json:"functions,omitempty" ref:"function" jsonschema_description:"What it brings back."`
	Onto      []string `yaml:"onto,omitempty" json:"onto,omitempty" ref:"node" jsonschema_description:"Where; left out, a node that has to be provided first."`
	Starts    string   `yaml:"starts,omitempty" json:"starts,omitempty" jsonschema:"enum=person,enum=automatic"`
	Steps     []Step   `yaml:"steps,omitempty" json:"steps,omitempty" ordered:"true"`
	Source    []Source `yaml:"source,omitempty" json:"source,omitempty"`
}

// Step is one step of a recovery plan; steps run in the order they are
// written unless After says otherwise.
type Step struct {
	Name      string   `yaml:"name" json:"name" jsonschema:"required"`
	Kind      string   `yaml:"kind" json:"kind" jsonschema:"required,enum=detect,enum=confirm,enum=declare,enum=fence,enum=isolate,enum=capture,enum=investigate,enum=notify,enum=decide,enum=approve,enum=provision,enum=promote,enum=restore,enum=replay,enum=rebuild,enum=certificate,enum=start,enum=validate,enum=dns,enum=watch,enum=reconcile,enum=failback,enum=wipe,enum=review,enum=hand-over,enum=switch"`
	Takes     Span     `yaml:"takes,omitempty" json:"takes,omitzero" jsonschema_description:"How long; left out where it follows from size and measured rate, or is not known."`
	By        []string `yaml:"by,omitempty" json:"by,omitempty" ref:"person"`
	Approve   []string `yaml:"approved_by,omitempty" json:"approved_by,omitempty" ref:"person"`
	After     []string `yaml:"after,omitempty" json:"after,omitempty" jsonschema_description:"Names of steps of this plan that must have ended; left out, the step before."`
	Uses      []string `yaml:"uses,omitempty" json:"uses,omitempty" ref:"function" jsonschema_description:"Functions it needs to work: repository, password manager, DNS, mail."`
	Functions []string `yaml:"functions,omitempty" json:"functions,omitempty" ref:"function" jsonschema_description:"Functions it is about; left out, all of the plan."`
	Node      string   `yaml:"node,omitempty" json:"node,omitempty" ref:"node"`
	Supplier  string   `yaml:"supplier,omitempty" json:"supplier,omitempty" ref:"supplier"`
	Notice    string   `yaml:"notice,omitempty" json:"notice,omitempty" ref:"notice"`
	Runbook   string   `yaml:"runbook,omitempty" json:"runbook,omitempty" ref:"runbook"`
	Source    []Source `yaml:"source,omitempty" json:"source,omitempty"`
}

// Runbook is a procedure, in Markdown beside the plan.
type Runbook struct {
	Name        string   `yaml:"name" json:"name" jsonschema:"required"`
	Title       string   `yaml:"title,omitempty" json:"title,omitempty"`
	File        string   `yaml:"file,omitempty" json:"file,omitempty" jsonschema_description:"Path of the Markdown file, relative to the plan."`
	For         []string `yaml:"for,omitempty" json:"for,omitempty" ref:"function,scenario" jsonschema_description:"Names of the functions and scenarios it serves."`
	StoredIn    []string `yaml:"stored_in,omitempty" json:"stored_in,omitempty" ref:"function" jsonschema_description:"Functions that hold it, such as the repository."`
	Printed     bool     `yaml:"printed,omitempty" json:"printed,omitempty" jsonschema_description:"There is a copy that needs none of the systems."`
	Owner       string   `yaml:"owner,omitempty" json:"owner,omitempty" ref:"person"`
	ReviewEvery Span     `yaml:"review_every,omitempty" json:"review_every,omitzero"`
	Reviewed    Date     `yaml:"reviewed,omitempty" json:"reviewed,omitzero"`
	Source      []Source `yaml:"source,omitempty" json:"source,omitempty"`
}

// Duty is something done again and again.
type Duty struct {
	Name   string   `yaml:"name" json:"name" jsonschema:"required"`
	Kind   string   `yaml:"kind" json:"kind" jsonschema:"required,enum=plan-review,enum=exercise,enum=backup-test,enum=access-review,enum=vulnerability-assessment,enum=runbook-review,enum=supplier-review,enum=contact-review,enum=post-incident-review,enum=client-update,enum=attestation"`
	Every  Span     `yaml:"every,omitempty" json:"every,omitzero"`
	Within Span     `yaml:"within,omitempty" json:"within,omitzero" jsonschema_description:"For what follows an event: how soon after it."`
	On     []string `yaml:"on,omitempty" json:"on,omitempty" jsonschema:"enum=architecture-change,enum=incident,enum=people-change,enum=supplier-change" jsonschema_description:"Events that ask for it besides."`
	Form   string   `yaml:"form,omitempty" json:"form,omitempty" jsonschema:"enum=desktop,enum=sandbox,enum=live" jsonschema_description:"For an exercise: talked through, on copies, on the real thing."`
	Proves []string `yaml:"proves,omitempty" json:"proves,omitempty" jsonschema:"enum=rto,enum=rpo,enum=contacts,enum=decisions" jsonschema_description:"What it is offered as proof of."`
	Of     []string `yaml:"of,omitempty" json:"of,omitempty" jsonschema_description:"Names of what it is about; left out, all."`
	Owner  string   `yaml:"owner,omitempty" json:"owner,omitempty" ref:"person"`
	Last   Date     `yaml:"last,omitempty" json:"last,omitzero"`
	Close  Span     `yaml:"close_within,omitempty" json:"close_within,omitzero" jsonschema_description:"How soon the gaps it finds are closed."`
	Source []Source `yaml:"source,omitempty" json:"source,omitempty"`
}

// Claim is a standard, certificate or insurance that is claimed.
type Claim struct {
	Name     string   `yaml:"name" json:"name" jsonschema:"required"`
	Standard string   `yaml:"standard" json:"standard" jsonschema:"required" jsonschema_description:"Such as iso-27001, cyber-essentials, iso-42001, jsp-936."`
	Status   string   `yaml:"status" json:"status" jsonschema:"required,enum=held,enum=in-progress,enum=aligned,enum=lapsed"`
	Kind     string   `yaml:"kind,omitempty" json:"kind,omitempty" jsonschema:"enum=certificate,enum=insurance,enum=alignment,enum=attestation"`
	Scope    string   `yaml:"scope,omitempty" json:"scope,omitempty"`
	Cover    string   `yaml:"cover,omitempty" json:"cover,omitempty"`
	Supplier string   `yaml:"supplier,omitempty" json:"supplier,omitempty" ref:"supplier"`
	Owner    string   `yaml:"owner,omitempty" json:"owner,omitempty" ref:"person"`
	Until    Date     `yaml:"until,omitempty" json:"until,omitzero"`
	Source   []Source `yaml:"source,omitempty" json:"source,omitempty"`
}

// Security is what is said of protection.
type Security struct {
	TLS             []TLS      `yaml:"tls,omitempty" json:"tls,omitempty"`
	Hashing         []Hashing  `yaml:"hashing,omitempty" json:"hashing,omitempty"`
	Encryption      *Cipher    `yaml:"encryption,omitempty" json:"encryption,omitempty" jsonschema_description:"What holds for data at rest unless a node or backup says more."`
	Patching        Patching   `yaml:"patching,omitempty" json:"patching,omitzero"`
	Disclosure      Disclosure `yaml:"disclosure,omitempty" json:"disclosure,omitzero"`
	AdminMFA        *bool      `yaml:"admin_mfa,omitempty" json:"admin_mfa,omitempty"`
	RestoreNeeds    string     `yaml:"restore_after,omitempty" json:"restore_after,omitempty" jsonschema:"enum=containment,enum=root-cause" jsonschema_description:"After a security incident: what must be known before anything is restored."`
	RootCauseWithin Span       `yaml:"root_cause_within,omitempty" json:"root_cause_within,omitzero"`
	DwellTime       Span       `yaml:"dwell_time,omitempty" json:"dwell_time,omitzero" jsonschema_description:"How long an intruder may have been there unseen; clean backups must be older."`
	Source          []Source   `yaml:"source,omitempty" json:"source,omitempty"`
}

// TLS is what is promised of one kind of traffic.
type TLS struct {
	For     string   `yaml:"for" json:"for" jsonschema:"required,enum=clients,enum=api,enum=mail,enum=internal,enum=database"`
	Uses    string   `yaml:"uses,omitempty" json:"uses,omitempty" jsonschema:"enum=1.2,enum=1.3" jsonschema_description:"What is said to be used."`
	Minimum string   `yaml:"minimum,omitempty" json:"minimum,omitempty" jsonschema:"enum=1.2,enum=1.3" jsonschema_description:"Lowest version that is answered."`
	Refuses []string `yaml:"refuses,omitempty" json:"refuses,omitempty" jsonschema:"enum=1.0,enum=1.1,enum=1.2"`
	Source  []Source `yaml:"source,omitempty" json:"source,omitempty"`
}

// Hashing is how secrets that are only compared are stored.
type Hashing struct {
	Of         []string `yaml:"of" json:"of" jsonschema:"required,enum=passwords,enum=session-tokens,enum=api-keys,enum=recovery-codes"`
	Algorithm  string   `yaml:"algorithm,omitempty" json:"algorithm,omitempty"`
	WorkFactor int      `yaml:"work_factor,omitempty" json:"work_factor,omitempty" jsonschema_description:"bcrypt's cost: 12 means 2^12 rounds."`
	Prehash    string   `yaml:"prehash,omitempty" json:"prehash,omitempty" jsonschema_description:"What makes the input fit: bcrypt reads 72 bytes and ignores the rest."`
	Source     []Source `yaml:"source,omitempty" json:"source,omitempty"`
}

// Patching is how fast weaknesses are mended.
type Patching struct {
	Critical Span     `yaml:"critical,omitempty" json:"critical,omitzero"`
	High     Span     `yaml:"high,omitempty" json:"high,omitzero"`
	Medium   Span     `yaml:"medium,omitempty" json:"medium,omitzero"`
	Low      Span     `yaml:"low,omitempty" json:"low,omitzero"`
	Staging  string   `yaml:"staging,omitempty" json:"staging,omitempty" ref:"function" jsonschema_description:"Function that a change must pass before production."`
	Source   []Source `yaml:"source,omitempty" json:"source,omitempty"`
}

// Disclosure is what reporters of weaknesses are promised.
type Disclosure struct {
	Contact     string   `yaml:"contact,omitempty" json:"contact,omitempty"`
	Acknowledge Span     `yaml:"acknowledge_within,omitempty" json:"acknowledge_within,omitzero"`
	UpdateEvery Span     `yaml:"update_every,omitempty" json:"update_every,omitzero"`
	Source      []Source `yaml:"source,omitempty" json:"source,omitempty"`
}
