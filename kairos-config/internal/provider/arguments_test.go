package provider

import (
	"strings"
	"testing"

	"github.com/kairos-io/toolkit/kairos-config/internal/tree"
)

// lists are items of args, "|" between them, and what K3s is to get. Kairos'
// provider joins the items with blanks into ExecStart=, systemd splits that, and
// K3s reads it with Go's flags.
var lists = []struct{ items, want string }{
	{"", ""},
	{"--disable=traefik", "disable: traefik"},
	{"--disable traefik", "disable: traefik"},
	{"--disable|traefik", "disable: traefik"},
	{"--disable=traefik|--disable=servicelb", "disable: [traefik, servicelb]"},
	{"--disable traefik --disable servicelb", "disable: [traefik, servicelb]"},
	{"--disable=traefik,servicelb", "disable: 'traefik,servicelb'"},
	{"--disable=traefik|-v|3", "disable: traefik; v: 3"},
	{"-v=3", "v: 3"},
	{"-v 3", "v: 3"},
	{"--v=3", "v: 3"},
	{"--v 3", "v: 3"},
	{"--node-ip 192.0.2.7", "node-ip: 192.0.2.7"},
	{"--node-ip=192.0.2.7", "node-ip: 192.0.2.7"},
	{"-node-ip=192.0.2.7", "node-ip: 192.0.2.7"},
	{"--node-ip=192.0.2.7,2001:db8::7", "node-ip: '192.0.2.7,2001:db8::7'"},
	{"--node-label site=berlin", "node-label: site=berlin"},
	{"--node-label=site=berlin", "node-label: site=berlin"},
	{"--node-label|site=berlin|--node-label|rack=7", "node-label: [site=berlin, rack=7]"},
	{"--tls-san 192.0.2.8 --tls-san 192.0.2.9", "tls-san: [192.0.2.8, 192.0.2.9]"},
	{"--label \"\"", "label: ''"},
	{"--node-label=\"\"", "node-label: ''"},
	{"--cluster-init", "cluster-init: true"},
	{"--cluster-init --tls-san x", "cluster-init: true; tls-san: x"},
	{"--cluster-init|--disable|traefik", "cluster-init: true; disable: traefik"},
	{"--cluster-init=true", "cluster-init: true"},
	{"--cluster-init=false", "cluster-init: false"},
	{"--etcd-expose-metrics true", "etcd-expose-metrics: true"},
	{"--secrets-encryption --selinux", "secrets-encryption: true; selinux: true"},
	{"--flannel-backend=none|--disable-network-policy", "flannel-backend: none; disable-network-policy: true"},
	{"--disable-kube-proxy --write-kubeconfig-mode 0644", "disable-kube-proxy: true; write-kubeconfig-mode: '0644'"},
	{"--write-kubeconfig-mode=644", "write-kubeconfig-mode: 644"},
	{"--kubelet-arg=max-pods=250", "kubelet-arg: max-pods=250"},
	{"--kubelet-arg max-pods=250", "kubelet-arg: max-pods=250"},
	{"--kubelet-arg=\"max-pods=250\"", "kubelet-arg: max-pods=250"},
	{"--kubelet-arg='feature-gates=A=true,B=false'", "kubelet-arg: 'feature-gates=A=true,B=false'"},
	{"--kube-apiserver-arg=\"audit-log-path=/var/log/a b.log\"", "kube-apiserver-arg: 'audit-log-path=/var/log/a b.log'"},
	{"--kube-apiserver-arg audit-log-path=/var/log/a\\sb.log", "kube-apiserver-arg: 'audit-log-path=/var/log/a b.log'"},
	{"\"--node-label=a b\"", "node-label: 'a b'"},
	{"--node-taint CriticalAddonsOnly=true:NoExecute", "node-taint: CriticalAddonsOnly=true:NoExecute"},
	{"--node-taint=a:NoSchedule|--node-taint=b:NoSchedule", "node-taint: [a:NoSchedule, b:NoSchedule]"},
	{"server|--cluster-init", "cluster-init: true"},
	{"server --cluster-init", "cluster-init: true"},
	{"server", ""},
	{"--server https://192.0.2.1:6443", "server: https://192.0.2.1:6443"},
	{"-s https://192.0.2.1:6443", "server: https://192.0.2.1:6443"},
	{"-t secret", "token: secret"},
	{"-d /data|-o /root/k", "data-dir: /data; write-kubeconfig: /root/k"},
	{"--token ${credential:k3s-token}", "token: '${credential:k3s-token}'"},
	{"--token=${credential:k3s-token}", "token: '${credential:k3s-token}'"},
	{"--cluster-cidr=10.42.0.0/16|--service-cidr=10.43.0.0/16", "cluster-cidr: 10.42.0.0/16; service-cidr: 10.43.0.0/16"},
	{"--cluster-dns 10.43.0.10", "cluster-dns: 10.43.0.10"},
	{"--flannel-iface=eth0 --bind-address 0.0.0.0", "flannel-iface: eth0; bind-address: 0.0.0.0"},
	{"--datastore-endpoint=postgres://u:p@db:5432/k", "datastore-endpoint: 'postgres://u:p@db:5432/k'"},
	{"--node-name=1.20", "node-name: '1.20'"},
	{"--node-name=12:30", "node-name: 12:30"},
	{"--node-name=yes", "node-name: yes"},
	{"--node-name=null", "node-name: 'null'"},
	{"--node-name=~", "node-name: '~'"},
	{"--node-name=#x", "node-name: '#x'"},
	{"--node-name=it\\'s", "node-name: 'it''s'"},
	{"--node-name=100%%", "node-name: '100%'"},
	{"--node-name=$$HOME", "node-name: '$HOME'"},
	{"--pause-image=quay.io/x/pause:3.9", "pause-image: quay.io/x/pause:3.9"},
	{"  --disable=traefik  ", "disable: traefik"},
	{"--disable=traefik\n--disable=metrics-server", "disable: [traefik, metrics-server]"},
	{"--log=/var/log/k3s.log|--debug|--alsologtostderr", "log: /var/log/k3s.log; debug: true; alsologtostderr: true"},
	{"--etcd-snapshot-schedule-cron '0 */6 * * *'", "etcd-snapshot-schedule-cron: '0 */6 * * *'"},
	{"--etcd-snapshot-retention=5|--etcd-s3", "etcd-snapshot-retention: 5; etcd-s3: true"},
	{"--kubelet-arg=v=-1", "kubelet-arg: v=-1"},
	{"--resolv-conf -", "resolv-conf: '-'"},
	// What is no option costs itself.
	{"traefik|--disable=servicelb", "disable: servicelb; ERROR \"traefik\" is not an option, and is skipped"},
	{"agent|--disable=servicelb", "disable: servicelb; ERROR \"agent\" is not an option, and is skipped"},
	{"--=x|--disable=a", "disable: a; ERROR \"--=x\" is not an option, and is skipped"},
	{"--|--disable=a", "disable: a; ERROR \"--\" is not an option, and is skipped"},
	{"--bad name: x|--disable=a", "bad: 'name:'; disable: a; ERROR \"x\" is not an option, and is skipped"},
	{"--disable='a|--disable=b", "disable: b; ERROR a quote ' is not closed"},
}

// TestArgumentLists holds what K3s gets of args.
func TestArgumentLists(t *testing.T) {
	if len(lists) < 60 {
		t.Fatalf("only %d lists", len(lists))
	}
	for _, l := range lists {
		options, err := arguments(strings.Split(l.items, "|"), "server")
		text := yamlOf(options)
		if n, problems := tree.Parse("x", []byte(text)); problems.Failed() || len(n.Fields) != len(options) {
			t.Errorf("%q: K3s could not read it: %v\n%s", l.items, problems, text)
		}
		got := compact(text)
		if err != nil {
			first, _, _ := strings.Cut(err.Error(), ":")
			got = strings.TrimPrefix(got+"; ERROR "+first, "; ")
		}
		if got != l.want {
			t.Errorf("%q:\ngot  %s\nwant %s", l.items, got, l.want)
		}
	}
}

// compact writes a config file of K3s on one line.
func compact(text string) string {
	var out []string
	for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		item, isItem := strings.CutPrefix(line, "- ")
		last := len(out) - 1
		switch {
		case !isItem:
			out = append(out, line)
		case strings.HasSuffix(out[last], ":"):
			out[last] += " [" + item + "]"
		default:
			out[last] = strings.TrimSuffix(out[last], "]") + ", " + item + "]"
		}
	}
	return strings.Join(out, "; ")
}

// TestK0s: k0s takes its arguments from argv alone, where no secret may be.
func TestK0s(t *testing.T) {
	root := image(t, map[string]string{"usr/bin/k0s": "", "usr/lib/systemd/system/k0scontroller.service": ""})
	list, _, problems := steps(t, root, "boot", `k0s: {enabled: true, args: ["controller --single", '--labels "a=b c"', "--token=${credential:t}"], env: {A: b}}`)
	if len(problems) != 1 || !strings.Contains(problems[0].Message, "everybody can read") {
		t.Error(problems)
	}
	want := "[Service]\nEnvironmentFile=-/etc/k0s/kairos-config.env\nExecStart=\nExecStart=/usr/bin/k0s controller --single --labels=\"a=b c\"\n"
	if len(list) != 1 || list[0].Systemctl.Overrides[0].Content != want || len(list[0].Files) != 1 || list[0].Systemctl.Start[0] != "k0scontroller.service" {
		t.Errorf("%+v", list)
	}
	if list, _, problems := steps(t, root, "boot", "k3s: {enabled: true}\nk3s-agent: {enabled: true}"); len(list) > 0 || !problems.Failed() {
		t.Errorf("two blocks: %+v, %v", list, problems)
	}
}
