package schema

import (
	"github.com/kairos-io/toolkit/kairos-config/internal/diag"
	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
)

// Kubernetes is k3s, k3s-agent, k0s and k0s-worker.
type Kubernetes struct {
	Enabled     bool            `key:"enabled" doc:"Run it on this node." def:"false" eg:"true"`
	Args        []string        `key:"args" doc:"Arguments of the server or the agent." eg:"[--disable=traefik]" is:"oneline"`
	Env         Entries[string] `key:"env" doc:"Variables of its service." eg:"{K3S_TOKEN: '${credential:k3s-token}'}" is:"oneline" keyis:"variable"`
	ReplaceArgs bool            `key:"replace_args" doc:"Use args alone, without those that the provider adds." def:"false" eg:"true"`
	ReplaceEnv  bool            `key:"replace_env" doc:"Use env alone, without what the provider adds." def:"false" eg:"true" none:"nothing is added to env"`
	Registry    bool            `key:"embedded_registry" doc:"Share images between the nodes of the cluster." def:"false" eg:"true"`
}

// KubeVIP is an address that the servers of a cluster share.
type KubeVIP struct {
	Enable      bool     `key:"enable" doc:"Announce an address that the servers of the cluster share." def:"true when eip is set" eg:"true"`
	EIP         string   `key:"eip" doc:"The shared address of the cluster, which no machine has yet." eg:"192.0.2.10" is:"nameserver"`
	Interface   string   `key:"interface" doc:"The network interface that carries it." eg:"ens18" is:"word"`
	Args        []string `key:"args" doc:"Arguments of kube-vip." eg:"[--arp]" is:"oneline"`
	ManifestURL string   `key:"manifest_url" doc:"Where to fetch the manifest of kube-vip, instead of the one of its version." eg:"https://example.org/kube-vip.yaml"`
	Version     string   `key:"version" doc:"The version of kube-vip." eg:"v0.8.9" is:"word"`
	StaticPod   bool     `key:"static_pod" doc:"Run it as a static pod." def:"false" eg:"true"`
	CIDR        string   `key:"cidr" doc:"The prefix of the address." eg:"'32'" is:"word"`
}

// P2P is the mesh of Kairos' provider.
type P2P struct {
	Role         string  `key:"role" doc:"The role of this node." eg:"master" is:"word"`
	NetworkToken Secret  `key:"network_token" doc:"The secret that the nodes of a network share." eg:"${credential:p2p-token}"`
	NetworkID    string  `key:"network_id" doc:"Tells networks with the same token apart." eg:"dev" is:"word"`
	DNS          bool    `key:"dns" doc:"Resolve the names of the network." def:"false" eg:"true"`
	DisableDHT   bool    `key:"disable_dht" doc:"Find nodes in the local network only." def:"true" eg:"true"`
	LogLevel     string  `key:"loglevel" doc:"How much is logged." eg:"info" is:"word"`
	MinimumNodes int     `key:"minimum_nodes" doc:"Wait for this many nodes." def:"0" eg:"3"`
	DynamicRoles bool    `key:"dynamic_roles" doc:"Let roles change." def:"false" eg:"true"`
	Auto         P2PAuto `key:"auto" doc:"How nodes find their roles in the cluster by themselves."`
	VPN          P2PVPN  `key:"vpn" doc:"The network between the nodes."`
}

// P2PAuto is how roles are given out.
type P2PAuto struct {
	Enable bool  `key:"enable" doc:"Give out roles." def:"true" eg:"true"`
	HA     P2PHA `key:"ha" doc:"Whether the cluster gets several servers."`
}

// P2PHA is several servers.
type P2PHA struct {
	Enable      bool   `key:"enable" doc:"Have several servers." def:"false" eg:"true"`
	MasterNodes int    `key:"master_nodes" doc:"How many beside the first." def:"0" eg:"2"`
	ExternalDB  Secret `key:"external_db" doc:"A database instead of etcd." eg:"${credential:db-url}"`
}

// P2PVPN is the network between the nodes.
type P2PVPN struct {
	Create bool            `key:"create" doc:"Make the network." def:"true" eg:"true"`
	Use    bool            `key:"use" doc:"Let the cluster use it." def:"true" eg:"true"`
	Env    Entries[string] `key:"env" doc:"Variables of edgevpn." eg:"{DHCP: 'true'}" is:"oneline" keyis:"variable"`
}

// Kcrypt is where the keys of encrypted volumes come from.
type Kcrypt struct {
	Enroll     []string   `key:"enroll" doc:"What opens them beside the recovery key: tpm2, passphrase or none." def:"[tpm2]" eg:"[tpm2]" is:"word"`
	Escrow     Escrow     `key:"escrow" doc:"Who is given the recovery key to keep, when a node is installed or reset."`
	Challenger Challenger `key:"challenger" doc:"A server that keeps them."`
	NVIndex    string     `key:"nv_index" doc:"The index of the TPM that keeps a local key." eg:"'0x1500000'" is:"word" none:"TPM keys are in the volume itself"`
	CIndex     string     `key:"c_index" doc:"The handle of the key that encrypts it." eg:"'0x1500001'" is:"word" none:"TPM keys are in the volume itself"`
	TPMDevice  string     `key:"tpm_device" doc:"The device of the TPM." def:"/dev/tpmrm0" eg:"/dev/tpmrm0" is:"path" none:"the TPM of the machine is taken"`
}

// Escrow is who keeps the recovery key of a node: see kairos-install(8).
type Escrow struct {
	Command  []string `key:"command" doc:"A program and its arguments, which reads a JSON document on stdin." eg:"[/usr/local/bin/keep-key]" is:"oneline"`
	URL      string   `key:"url" doc:"Where the document is posted to, instead: https." eg:"https://keys.example.org/nodes" is:"oneline"`
	Required bool     `key:"required" doc:"Let there be no data under a key that was not given away." def:"false" eg:"true"`
}

// Challenger is a server that keeps keys.
type Challenger struct {
	Server      string `key:"challenger_server" doc:"The address of the server that keeps passphrases." eg:"https://kcrypt.example.org" is:"oneline"`
	MDNS        bool   `key:"mdns" doc:"Find it by multicast DNS." def:"false" eg:"true"`
	Certificate string `key:"certificate" doc:"The certificate to trust, in PEM form." eg:"\"-----BEGIN CERTIFICATE-----\\n...\\n-----END CERTIFICATE-----\\n\""`
	NVIndex     string `key:"nv_index" doc:"An address in the memory of the TPM." eg:"'0x1500000'" is:"word" none:"TPM keys are in the volume itself"`
	CIndex      string `key:"c_index" doc:"An address in the memory of the TPM for certificates." eg:"'0x1500001'" is:"word" none:"TPM keys are in the volume itself"`
	TPMDevice   string `key:"tpm_device" doc:"The device of the TPM." eg:"/dev/tpmrm0" is:"path" none:"the TPM of the machine is taken"`
}

// ConfigURL is a config to fetch: a URL, which may end in #sha256=DIGEST, or a
// map.
type ConfigURL struct {
	Pos    diag.Pos
	URL    string `key:"url" doc:"https; http is accepted with a warning." eg:"https://example.org/node.yaml" is:"url" req:"y"`
	SHA256 string `key:"sha256" doc:"The digest that the config must have." eg:"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" is:"sha256"`
}

// decode leaves the address out when its digest can't be used: without it,
// anything would be taken.
func (u *ConfigURL) decode(n *tree.Node, f *field, problems *diag.List) bool {
	before := len(*problems)
	if n.Scalar() {
		*u = ParseConfigURL(n.Text)
		u.Pos = n.Pos
		ruleFor("url").hold(n, u.URL, f.key, problems)
		ruleFor("sha256").hold(n, u.SHA256, "the digest behind # of "+f.key, problems)
		return !(*problems)[before:].Failed()
	}
	type plain ConfigURL // without this method
	return decode(n, (*plain)(u), f.key, problems) && !(*problems)[before:].Failed()
}
