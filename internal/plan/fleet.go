package plan

// Site is a place that can be lost as one: a data centre, an office.
type Site struct {
	Name     string   `yaml:"name" json:"name" jsonschema:"required"`
	Supplier string   `yaml:"supplier,omitempty" json:"supplier,omitempty" ref:"supplier"`
	Country  string   `yaml:"country,omitempty" json:"country,omitempty" is:"country" jsonschema_description:"ISO 3166-1 code."`
	Source   []Source `yaml:"source,omitempty" json:"source,omitempty"`
}

// Node is a machine, or a service that stands for one.
type Node struct {
	Name       string   `yaml:"name" json:"name" jsonschema:"required"`
	Title      string   `yaml:"title,omitempty" json:"title,omitempty"`
	Supplier   string   `yaml:"supplier,omitempty" json:"supplier,omitempty" ref:"supplier"`
	Account    string   `yaml:"account,omitempty" json:"account,omitempty" jsonschema_description:"Account at the supplier; what shares it is lost with it."`
	Site       string   `yaml:"site,omitempty" json:"site,omitempty" ref:"site"`
	Country    string   `yaml:"country,omitempty" json:"country,omitempty" is:"country" jsonschema_description:"ISO 3166-1 code, where no site says it."`
	Roles      []string `yaml:"roles,omitempty" json:"roles,omitempty" jsonschema:"enum=gateway,enum=fleet,enum=inference,enum=witness,enum=database,enum=showroom,enum=backup"`
	Stack      string   `yaml:"stack,omitempty" json:"stack,omitempty" jsonschema_description:"How services run here, such as systemd+caddy or compose+traefik; a fallback with another stack is another product."`
	Isolated   bool     `yaml:"isolated,omitempty" json:"isolated,omitempty" jsonschema_description:"Shares no network, secret, control plane or vote with the others."`
	Control    string   `yaml:"control_plane,omitempty" json:"control_plane,omitempty" jsonschema_description:"Name of the control plane that manages it; nodes with one name share it."`
	Reaches    []string `yaml:"reaches,omitempty" json:"reaches,omitempty" ref:"node" jsonschema_description:"Nodes it may connect to."`
	Serves     string   `yaml:"serves,omitempty" json:"serves,omitempty" jsonschema:"enum=critical,enum=non-critical,enum=any" jsonschema_description:"What it may serve, by its description."`
	Spare      bool     `yaml:"spare,omitempty" json:"spare,omitempty" jsonschema_description:"Runs already and waits to take over."`
	Storage    Size     `yaml:"storage,omitempty" json:"storage,omitzero"`
	Encryption *Cipher  `yaml:"encryption,omitempty" json:"encryption,omitempty"`
	Remote     *SSH     `yaml:"remote_access,omitempty" json:"remote_access,omitempty"`
	Source     []Source `yaml:"source,omitempty" json:"source,omitempty"`
	Contract   Contract `yaml:"contract,omitempty" json:"contract,omitzero"`
}

// SSH is how people reach a node.
type SSH struct {
	By       []string `yaml:"by,omitempty" json:"by,omitempty" jsonschema:"enum=vpn,enum=ssh-key,enum=ssh-password,enum=console"`
	Password *bool    `yaml:"password,omitempty" json:"password,omitempty" jsonschema_description:"Whether a password is accepted."`
}

// Supplier is who something is bought from.
type Supplier struct {
	Name         string        `yaml:"name" json:"name" jsonschema:"required"`
	Title        string        `yaml:"title,omitempty" json:"title,omitempty"`
	Jurisdiction string        `yaml:"jurisdiction,omitempty" json:"jurisdiction,omitempty" is:"country" jsonschema_description:"ISO 3166-1 code of the law it obeys."`
	Provides     []string      `yaml:"provides,omitempty" json:"provides,omitempty" jsonschema:"enum=hosting,enum=storage,enum=inference,enum=dns,enum=domain,enum=certificates,enum=mail,enum=mail-relay,enum=password-manager,enum=telephony,enum=insurance,enum=certification,enum=monitoring,enum=contractor"`
	Critical     *bool         `yaml:"critical,omitempty" json:"critical,omitempty" jsonschema_description:"Whether the plan lists it as critical."`
	Retains      *bool         `yaml:"retains_data,omitempty" json:"retains_data,omitempty" jsonschema_description:"Whether it keeps what it is sent."`
	Safeguard    string        `yaml:"transfer_safeguard,omitempty" json:"transfer_safeguard,omitempty" jsonschema:"enum=idta,enum=scc,enum=adequacy,enum=bcr,enum=none"`
	Alternatives []Alternative `yaml:"alternatives,omitempty" json:"alternatives,omitempty" ordered:"true"`
	Provisions   Span          `yaml:"provisions_within,omitempty" json:"provisions_within,omitzero" jsonschema_description:"How soon it has undertaken to deliver a new node or service; left out when nothing obliges it."`
	StatusPage   string        `yaml:"status_page,omitempty" json:"status_page,omitempty"`
	Contract     Contract      `yaml:"contract,omitempty" json:"contract,omitzero"`
	Reviewed     Date          `yaml:"reviewed,omitempty" json:"reviewed,omitzero"`
	ReviewEvery  Span          `yaml:"review_every,omitempty" json:"review_every,omitzero"`
	Source       []Source      `yaml:"source,omitempty" json:"source,omitempty"`
}

// Alternative is another supplier that could take over.
type Alternative struct {
	Supplier  string `yaml:"supplier" json:"supplier" jsonschema:"required" ref:"supplier"`
	Runbook   string `yaml:"runbook,omitempty" json:"runbook,omitempty" ref:"runbook" jsonschema_description:"How to change over."`
	Within    Span   `yaml:"within,omitempty" json:"within,omitzero" jsonschema_description:"How long the change takes."`
	Rehearsed Date   `yaml:"rehearsed,omitempty" json:"rehearsed,omitzero"`
}

// Function is something the organisation must be able to do.
type Function struct {
	Name        string       `yaml:"name" json:"name" jsonschema:"required"`
	Title       string       `yaml:"title,omitempty" json:"title,omitempty"`
	Kind        string       `yaml:"kind,omitempty" json:"kind,omitempty" jsonschema:"enum=platform,enum=client,enum=database,enum=repository,enum=mail,enum=inference,enum=dns,enum=certificates,enum=password-manager,enum=incident-log,enum=monitoring,enum=staging,enum=development,enum=status-page,enum=other"`
	Critical    *bool        `yaml:"critical,omitempty" json:"critical,omitempty"`
	MTD         Span         `yaml:"mtd,omitempty" json:"mtd,omitzero" jsonschema_description:"Maximum tolerable downtime: after that the harm is not acceptable."`
	RTO         Span         `yaml:"rto,omitempty" json:"rto,omitzero" jsonschema_description:"Recovery time objective: how long until it is back."`
	RPO         Span         `yaml:"rpo,omitempty" json:"rpo,omitzero" jsonschema_description:"Recovery point objective: how much of the latest data may be lost."`
	Host        []string     `yaml:"host,omitempty" json:"host,omitempty" ref:"node" jsonschema_description:"Nodes it runs on; several mean that each can carry it alone."`
	Suppliers   []string     `yaml:"suppliers,omitempty" json:"suppliers,omitempty" ref:"supplier" jsonschema_description:"Suppliers without whom it stops."`
	Needs       []string     `yaml:"needs,omitempty" json:"needs,omitempty" ref:"function" jsonschema_description:"Functions without which it stops."`
	RestoreBy   []string     `yaml:"restored_from,omitempty" json:"restored_from,omitempty" ref:"function" jsonschema_description:"Functions needed to bring it back: a repository, a registry."`
	Fallbacks   []Fallback   `yaml:"fallbacks,omitempty" json:"fallbacks,omitempty" ordered:"true" jsonschema_description:"What carries it meanwhile, in the order they are tried."`
	Data        []string     `yaml:"data,omitempty" json:"data,omitempty" ref:"data"`
	Size        Size         `yaml:"size,omitempty" json:"size,omitzero" jsonschema_description:"How much must be restored."`
	Hostnames   []string     `yaml:"hostnames,omitempty" json:"hostnames,omitempty"`
	DNSTTL      Span         `yaml:"dns_ttl,omitempty" json:"dns_ttl,omitzero"`
	Probes      []Probe      `yaml:"probes,omitempty" json:"probes,omitempty"`
	Certificate *Certificate `yaml:"certificate,omitempty" json:"certificate,omitempty"`
	Owner       string       `yaml:"owner,omitempty" json:"owner,omitempty" ref:"person"`
	Operators   []string     `yaml:"operators,omitempty" json:"operators,omitempty" ref:"person" jsonschema_description:"Who recovers it; the organisation's operators when left out."`
	Source      []Source     `yaml:"source,omitempty" json:"source,omitempty"`
}

// Fallback is what carries a function while its host is away.
type Fallback struct {
	Node      string   `yaml:"node,omitempty" json:"node,omitempty" ref:"node"`
	Supplier  string   `yaml:"supplier,omitempty" json:"supplier,omitempty" ref:"supplier"`
	State     string   `yaml:"state,omitempty" json:"state,omitempty" jsonschema:"enum=hot,enum=warm,enum=cold" jsonschema_description:"hot: serves already; warm: runs, must be switched; cold: must be built first."`
	Data      string   `yaml:"data,omitempty" json:"data,omitempty" jsonschema:"enum=replica,enum=backup,enum=none" jsonschema_description:"Where its data come from."`
	Lag       Span     `yaml:"lag,omitempty" json:"lag,omitzero" jsonschema_description:"How far a replica may be behind."`
	Automatic bool     `yaml:"automatic,omitempty" json:"automatic,omitempty" jsonschema_description:"Taken without a person deciding."`
	Consent   string   `yaml:"consent,omitempty" json:"consent,omitempty" jsonschema:"enum=per-client,enum=all-clients,enum=none" jsonschema_description:"Whose consent there is where it lies in another jurisdiction."`
	Serves    string   `yaml:"serves,omitempty" json:"serves,omitempty" jsonschema:"enum=critical,enum=non-critical,enum=any" jsonschema_description:"What of the function it may carry."`
	Takes     Span     `yaml:"takes,omitempty" json:"takes,omitzero"`
	Rehearsed Date     `yaml:"rehearsed,omitempty" json:"rehearsed,omitzero"`
	CostLimit string   `yaml:"cost_limit,omitempty" json:"cost_limit,omitempty" jsonschema_description:"Budget that bounds it, such as 200 EUR/day."`
	Source    []Source `yaml:"source,omitempty" json:"source,omitempty"`
}

// Probe is how it is seen that a function works. The recovery of a function
// is validated by its probes.
type Probe struct {
	Name   string   `yaml:"name" json:"name" jsonschema:"required"`
	Kind   string   `yaml:"kind" json:"kind" jsonschema:"required,enum=https,enum=tcp,enum=tls,enum=dns,enum=smtp,enum=postgresql,enum=ssh,enum=systemd,enum=git,enum=disk,enum=backup-age,enum=model,enum=unreachable"`
	Target string   `yaml:"target" json:"target" jsonschema:"required"`
	Every  Span     `yaml:"every,omitempty" json:"every,omitzero"`
	From   []string `yaml:"from,omitempty" json:"from,omitempty" ref:"node" jsonschema_description:"Nodes that look; all of the fleet when left out."`
}

// Watch is another fleet, seen from outside: by its public endpoints, and by
// nothing that it has to give.
type Watch struct {
	Name   string   `yaml:"name" json:"name" jsonschema:"required" jsonschema_description:"What the other fleet is called here."`
	Title  string   `yaml:"title,omitempty" json:"title,omitempty" jsonschema_description:"Whom to call there, in words for whoever is on call here."`
	Probes []Probe  `yaml:"probes" json:"probes" jsonschema:"required" jsonschema_description:"Looks at public endpoints: https, tcp, tls, dns, smtp, ssh. Two of different kinds, or a failure stays a suspicion and calls nobody."`
	Owner  string   `yaml:"owner,omitempty" json:"owner,omitempty" ref:"person"`
	Source []Source `yaml:"source,omitempty" json:"source,omitempty"`
}

// Certificate is how a function's TLS certificate comes about.
type Certificate struct {
	Issuer    string   `yaml:"issuer,omitempty" json:"issuer,omitempty" ref:"supplier"`
	Challenge string   `yaml:"challenge,omitempty" json:"challenge,omitempty" jsonschema:"enum=http-01,enum=tls-alpn-01,enum=dns-01,enum=none" jsonschema_description:"How the issuer is convinced (RFC 8555, RFC 8737); none: bought, private or copied."`
	CopiedTo  []string `yaml:"copied_to,omitempty" json:"copied_to,omitempty" ref:"node" jsonschema_description:"Nodes that hold a copy before anything happens."`
	Until     Date     `yaml:"until,omitempty" json:"until,omitzero"`
}

// DataClass is a kind of data.
type DataClass struct {
	Name     string   `yaml:"name" json:"name" jsonschema:"required"`
	Title    string   `yaml:"title,omitempty" json:"title,omitempty"`
	Personal bool     `yaml:"personal,omitempty" json:"personal,omitempty"`
	Stays    []string `yaml:"stays_in,omitempty" json:"stays_in,omitempty" is:"countries" jsonschema_description:"Countries, or EEA, EU, that it may not leave."`
	Rebuilt  string   `yaml:"rebuilt_from,omitempty" json:"rebuilt_from,omitempty" jsonschema_description:"Why it needs no backup: what it can be made from again."`
	Source   []Source `yaml:"source,omitempty" json:"source,omitempty"`
}

// Backup is one way in which data are copied.
type Backup struct {
	Name        string         `yaml:"name" json:"name" jsonschema:"required"`
	Functions   []string       `yaml:"functions,omitempty" json:"functions,omitempty" ref:"function"`
	Data        []string       `yaml:"data,omitempty" json:"data,omitempty" ref:"data"`
	Every       Span           `yaml:"every,omitempty" json:"every,omitzero"`
	Continuous  Span           `yaml:"continuous,omitempty" json:"continuous,omitzero" jsonschema_description:"With a log shipped continuously: how far it may be behind."`
	Takes       Span           `yaml:"takes,omitempty" json:"takes,omitzero" jsonschema_description:"How long one run takes."`
	Transfer    Span           `yaml:"transfer,omitempty" json:"transfer,omitzero" jsonschema_description:"How long until it has arrived elsewhere."`
	KeepAtLeast Span           `yaml:"keep_at_least,omitempty" json:"keep_at_least,omitzero"`
	DeleteAfter Span           `yaml:"delete_after,omitempty" json:"delete_after,omitzero"`
	Keep        Span           `yaml:"keep,omitempty" json:"keep,omitzero" jsonschema_description:"A retention that says neither minimum nor maximum."`
	To          []BackupTarget `yaml:"to,omitempty" json:"to,omitempty"`
	Encryption  *Cipher        `yaml:"encryption,omitempty" json:"encryption,omitempty"`
	MadeBy      string         `yaml:"made_by,omitempty" json:"made_by,omitempty" jsonschema:"enum=foundry,enum=other" jsonschema_description:"foundry: by the platform itself, whose proven points and measured rates stand in for what is written here."`
	TestEvery   Span           `yaml:"test_every,omitempty" json:"test_every,omitzero"`
	Tested      Date           `yaml:"tested,omitempty" json:"tested,omitzero"`
	Source      []Source       `yaml:"source,omitempty" json:"source,omitempty"`
}

// BackupTarget is a place that holds backups.
type BackupTarget struct {
	Name      string `yaml:"name,omitempty" json:"name,omitempty"`
	Supplier  string `yaml:"supplier,omitempty" json:"supplier,omitempty" ref:"supplier"`
	Account   string `yaml:"account,omitempty" json:"account,omitempty"`
	Site      string `yaml:"site,omitempty" json:"site,omitempty" ref:"site"`
	Node      string `yaml:"node,omitempty" json:"node,omitempty" ref:"node"`
	Country   string `yaml:"country,omitempty" json:"country,omitempty" is:"country"`
	Immutable *bool  `yaml:"immutable,omitempty" json:"immutable,omitempty" jsonschema_description:"Object lock or append-only: nobody with the node's credentials can remove it."`
}

// Cipher is how data at rest are encrypted.
type Cipher struct {
	Algorithm string `yaml:"algorithm,omitempty" json:"algorithm,omitempty" jsonschema_description:"Such as aes-256-gcm or xts-aes-256: cipher, key length and mode."`
	Mode      string `yaml:"mode,omitempty" json:"mode,omitempty" jsonschema_description:"Mode of operation, where the algorithm does not name it: gcm, xts, cbc."`
	KeysApart *bool  `yaml:"keys_apart,omitempty" json:"keys_apart,omitempty" jsonschema_description:"Whether the keys lie elsewhere than the data."`
}
