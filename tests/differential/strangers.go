package differential

// strangers are shapes that people write, beside those of inputs: of yip's own tests,
// of Kairos' default configs, of configs on the net, in words of our own.
func strangers() []input {
	const tmp = "stages:\n  boot:\n"
	return []input{
		{"a file without a header, with a name", "boot", "name: \"a file\"\n" + tmp + "  - name: x\n    commands:\n    - touch /tmp/a\n", ""},
		{"a marker before all", "boot", "---\n" + tmp + "  - commands: [touch /tmp/a]\n", ""},
		{"lines of Windows", "boot", "stages:\r\n  boot:\r\n  - commands:\r\n    - touch /tmp/a\r\n", ""},
		{"a byte order mark", "boot", "\xef\xbb\xbf" + tmp + "  - commands: [touch /tmp/a]\n", ""},
		{"tabs behind values", "boot", tmp + "  - commands:\t# a tab\n    - touch /tmp/a\t\n", ""},
		{"an anchor and an alias", "boot", tmp + "  - &a\n    commands: [echo x >> /tmp/a]\n  - *a\n", ""},
		{"a merge key", "boot", tmp + "  - &a\n    name: a\n    commands: [echo x >> /tmp/a]\n  - <<: *a\n    name: b\n", ""},
		{"a folded command", "boot", tmp + "  - commands:\n    - >\n      echo a\n      b > /tmp/a\n", ""},
		{"a folded command, stripped", "boot", tmp + "  - commands:\n    - >-\n      echo a\n      b > /tmp/a\n", ""},
		{"a here document", "boot", tmp + "  - commands:\n    - |\n      cat > /tmp/a <<EOF\n      one $((1+1))\n      EOF\n", ""},
		{"a quoted here document", "boot", tmp + "  - commands:\n    - |\n      cat > /tmp/a <<'EOF'\n      one $HOME\n      EOF\n", ""},
		{"a command that is a number", "boot", tmp + "  - commands: [17, 'touch /tmp/a']\n", ""},
		{"no commands", "boot", tmp + "  - commands:\n  - commands: [touch /tmp/a]\n", ""},
		{"an empty file list", "boot", tmp + "  - files: []\n    commands: [touch /tmp/a]\n", ""},
		{"a condition of lines", "boot", tmp + "  - if: |\n      [ -e /etc/present ] && \\\n      ( [ -e /etc/passwd ] || [ -e /nowhere ] )\n    commands: [touch /tmp/a]\n", ""},
		{"a condition with a pipe", "boot", tmp + "  - if: \"cat /etc/present | grep old\"\n    commands: [touch /tmp/a]\n", ""},
		{"a condition on what a step has written", "boot", tmp + "  - commands: ['echo bar > /tmp/a']\n  - if: 'grep bar /tmp/a'\n    commands: [touch /tmp/b]\n", ""},
		{"a template in a command", "boot", tmp + "  - commands: ['echo {{ upper \"a\" }} > /tmp/a']\n", ""},
		{"a template over lines", "boot", tmp + "  - files:\n    - path: /etc/f\n      permissions: 0644\n      content: |\n        {{ range $i := until 3 }}\n        {{ $i }}\n        {{ end }}\n", ""},
		{"a template with dashes", "boot", tmp + "  - files:\n    - path: /etc/f\n      permissions: 0644\n      content: |\n        {{- if true }}\n        yes\n        {{- else }}\n        no\n        {{- end }}\n", ""},
		{"braces of another program", "boot", tmp + "  - files:\n    - path: /etc/f\n      permissions: 0644\n      content: |\n        ${a} {b} $(c) %d\n", ""},
		{"a long text", "boot", tmp + "  - files:\n    - path: /etc/f\n      permissions: 0600\n      content: |\n        #!/bin/sh\n        # a script\n        set -e\n\n        echo \"a: b\"\n", ""},
		{"permissions as a text", "boot", tmp + "  - files: [{path: /etc/f, content: x, permissions: \"0640\"}]\n", "permissions in quotes are permissions; yip loses the whole file over them"},
		{"a file in base64 over lines", "boot", tmp + "  - files:\n    - path: /etc/f\n      permissions: 0644\n      encoding: base64\n      content: |\n        aGVs\n        bG8=\n", ""},
		{"a file in gzip and base64", "boot", tmp + "  - files: [{path: /etc/f, permissions: 0644, encoding: gzip+base64, content: H4sIAAAAAAAAA8tIzcnJBwCGphA2BQAAAA==}]\n", ""},
		{"a directory and a file in it", "boot", tmp + "  - files: [{path: /srv/d/f, content: x, permissions: 0644}]\n    directories: [{path: /srv/d, permissions: 0755}]\n", ""},
		{"a stage of a provider", "provider-kairos.bootstrap.after.k3s-ready", "#cloud-config\nk3s: {enabled: false}\nstages:\n  'provider-kairos.bootstrap.after.k3s-ready':\n  - commands: [touch /tmp/a]\n", ""},
		{"keys beside stages", "boot", "#cloud-config\nmetallb: {version: 0.13.7}\nstages: {boot: [{commands: [touch /tmp/a]}]}\n", ""},
		{"runcmd in lists", "boot", "#cloud-config\nruncmd:\n- touch /tmp/a\n- |\n  touch /tmp/b\n  touch /tmp/c\n", ""},
		{"runcmd and stages", "boot", "#cloud-config\nruncmd: ['echo 1 >> /tmp/a']\nstages: {boot: [{commands: ['echo 2 >> /tmp/b']}]}\n", ""},
		{"write_files over lines", "boot", "#cloud-config\nwrite_files:\n- path: /etc/f\n  permissions: \"0644\"\n  owner: \"root\"\n  content: |\n      kind: A\n      ---\n      kind: B\n", ""},
		{"several write_files", "boot", "#cloud-config\nwrite_files:\n- {path: /etc/a, permissions: '0600', content: a}\n- {path: /etc/b, permissions: '0755', content: b}\n", ""},
		{"a comment in the first line, then the header", "boot", "# mine\n#cloud-config\nruncmd: ['touch /tmp/a']\n", "a header may stand in any of the first ten lines, as cloud-init has it"},
		{"an unknown stage key of another type", "boot", tmp + "  - nosuch: {a: [b]}\n    commands: [touch /tmp/a]\n", ""},
	}
}
