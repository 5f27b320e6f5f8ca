// One app and one service, by a strict client: discovery, code with PKCE, ID token, userinfo, introspection,
// refresh, revocation, and client_credentials with a signed assertion. Asks for the browser's part on stdout.
import {createInterface} from "node:readline/promises";
import * as oauth from "./index.mjs";

const given = JSON.parse(process.argv[2]);
const insecure = {[oauth.allowInsecureRequests]: true};
const issuer = new URL(given.issuer);
const server = await oauth.processDiscoveryResponse(
  issuer, await oauth.discoveryRequest(issuer, {algorithm: "oidc", ...insecure}));
const client = {client_id: given.client_id};
const proof = oauth.ClientSecretBasic(given.client_secret);
const verifier = oauth.generateRandomCodeVerifier();
const state = oauth.generateRandomState();
const nonce = oauth.generateRandomNonce();
const url = new URL(server.authorization_endpoint);
for (const [name, value] of Object.entries({
  response_type: "code", client_id: given.client_id, redirect_uri: given.redirect_uri, state, nonce,
  scope: "openid fhirUser offline_access user/ImagingStudy.rs", aud: `${given.issuer}/fhir`,
  code_challenge: await oauth.calculatePKCECodeChallenge(verifier), code_challenge_method: "S256",
})) url.searchParams.set(name, value);
console.log(url.href);

const lines = createInterface({input: process.stdin});
const returned = new URL((await lines[Symbol.asyncIterator]().next()).value);
lines.close();
const parameters = oauth.validateAuthResponse(server, client, returned, state);
const told = await oauth.processAuthorizationCodeResponse(
  server, client,
  await oauth.authorizationCodeGrantRequest(
    server, client, proof, parameters, given.redirect_uri, verifier, insecure),
  {expectedNonce: nonce, requireIdToken: true});
const claims = oauth.getValidatedIdTokenClaims(told);
const user = await oauth.processUserInfoResponse(
  server, client, claims.sub, await oauth.userInfoRequest(server, client, told.access_token, insecure));
const seen = await oauth.processIntrospectionResponse(
  server, client, await oauth.introspectionRequest(server, client, proof, told.access_token, insecure));
const renewed = await oauth.processRefreshTokenResponse(
  server, client, await oauth.refreshTokenGrantRequest(server, client, proof, told.refresh_token, insecure));
await oauth.processRevocationResponse(
  await oauth.revocationRequest(server, client, proof, renewed.access_token, insecure));
const after = await oauth.processIntrospectionResponse(
  server, client, await oauth.introspectionRequest(server, client, proof, renewed.access_token, insecure));

const key = await crypto.subtle.importKey(
  "jwk", given.service_key, {name: "ECDSA", namedCurve: "P-384"}, false, ["sign"]);
const service = {client_id: given.service_id};
const signed = oauth.PrivateKeyJwt({key, kid: given.service_key.kid}, {
  [oauth.modifyAssertion](header, payload) { header.typ = "JWT"; payload.aud = server.token_endpoint; }});
const granted = await oauth.processClientCredentialsResponse(
  server, service, await oauth.clientCredentialsGrantRequest(
    server, service, signed, new URLSearchParams({scope: "system/ImagingStudy.rs"}), insecure));
console.log(JSON.stringify({
  claims, user, seen, after, scope: told.scope, renewed: renewed.scope, service: granted.scope,
  life: granted.expires_in}));
