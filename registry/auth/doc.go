// Package auth decides who may do what in a registry: users with passwords in an htpasswd file, who log in as every client can, with
// Basic authentication, and a policy in a file that says what each of them, and who is not logged in, may pull, push and
// delete.
//
// The parts are separate. [Users] know passwords, a [Policy] knows rules, and an [Authenticator] turns both into what
// registry.HandlerOptions.Authorize takes. A service that has accounts of its own gives the Authenticator a function in the
// place of either.
//
// # The policy file
//
// It is YAML (so JSON will do), and a list of rules, each of which lets its users do its actions in its repositories:
//
//	rules:
//	  - users: [anonymous]
//	    repositories: ["public/**"]
//	    actions: [pull]
//	  - users: ["*"]
//	    repositories: ["**"]
//	    actions: [pull]
//	  - users: [ci, alice]
//	    repositories: ["team/**", tools]
//	    actions: [pull, push, delete]
//
// The user anonymous stands for everybody, logged in or not, and "*" for everybody who is logged in. Repositories are patterns:
// see [registry.ParsePattern]. The actions are pull, push (which needs pull beside it, since clients look before they push) and
// delete. Rules only grant, so their order does not matter, and what none of them grants is forbidden. Whatever the file
// says that is not this, is an error with its line. Without a policy, whoever is logged in may do everything.
//
// Both files are read again when they change, with the next request; a change that is malformed is logged, and leaves in force
// what was there before.
//
// # Who sees what
//
//   - No credentials, or wrong ones, where they are needed: 401 UNAUTHORIZED, with the challenge Basic realm="…".
//   - Credentials that are wrong are refused with 401 everywhere, also where none are needed.
//   - Right credentials, and nothing that allows it: 403 DENIED. Nobody learns from that whether a repository exists.
//   - The source of a mount that may not be pulled from: the client uploads instead.
//   - The catalog: everybody who is logged in, of whose entries they see those that they may pull.
//
// # Anonymous pulls
//
// Clients learn at /v2/ whether to log in, so who comes there without credentials is answered 401, whatever the policy lets
// them do elsewhere: were it 200, Docker would never send its credentials, and nobody could push with it. What clients without
// credentials make of that 401 is theirs to decide:
//
//   - containerd (so Kubernetes, nerdctl, Docker with containerd's image store, and BuildKit), oras and helm, and curl ask for the
//     image itself, and pull.
//   - podman, skopeo, buildah and CRI-O go on after the 401, with credentials that are empty, which count as none, and pull.
//   - crane, and what else uses go-containerregistry, and regctl go on without credentials, and pull.
//   - Docker Engine with its classic image store fails with "no basic auth credentials". It pulls once logged in, as any user.
//
// The protocol has an answer for the last one, which is a token server. Without one, serve the same registry a second time,
// under another host name or port, with an Authenticator that has only a policy (Options.Authenticate is nil): there nobody
// can log in, /v2/ is answered 200, and every client pulls what the policy gives to anonymous.
//
// Basic sends the password with each request. Serve it over TLS, or on loopback.
package auth
