"""Messages to people outside: SMS, e-mail, WeChat, web push and the hospital's own app, and their inbox."""
