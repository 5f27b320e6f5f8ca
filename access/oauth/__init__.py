"""The OAuth 2 and OpenID Connect door: SMART App Launch 2.2 on authlib."""
