//! The request of `ringroad explain`, from its flags: none that the proxy would refuse.

use std::time::{SystemTime, UNIX_EPOCH};

use ringroad_codec::http1::{HeadLimits, Progress, RequestHead, Upgrade};
use ringroad_codec::http1::{is_token, parse_request};
use ringroad_policy::explain::{Request, WireProtocol};

use super::ExplainArgs;

/// # Errors
///
/// What is wrong with a flag, and what to write.
pub fn request(args: &ExplainArgs) -> Result<Request, String> {
    let mut request = match &args.url {
        Some(url) => of_url(url)?,
        None => Request {
            target: "/".to_string(),
            ..Request::default()
        },
    };
    request.method.clone_from(&args.method);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    request.now_unix_s = now.ok().map(|now| now.as_secs());
    let mut names_host = false;
    for header in &args.header {
        let (name, value) = header_of(header)?;
        // A second one is refused as a client's is.
        if name == "host" && !names_host {
            names_host = true;
            request.authority = value;
        } else {
            request.headers.push((name, value));
        }
    }
    args.connection.connect(&mut request)?;
    if request.connection.protocol != WireProtocol::Tcp {
        check_method(&request.method)?;
        if args.url.is_some() {
            check_as_received(&request)?;
        }
    }
    Ok(request)
}

fn of_url(url: &str) -> Result<Request, String> {
    if let Some(wrong) = url.chars().find(|c| c.is_whitespace() || c.is_control()) {
        let what = match wrong {
            ' ' => "a space".to_string(),
            other => format!("the character `{}`", other.escape_default()),
        };
        return Err(format!(
            "the URL `{}` has {what}: write it escaped, as a client sends it, `%20` for a space",
            url.escape_debug()
        ));
    }
    if let Some((scheme, _)) = url.split_once("://")
        && !["http", "https"].contains(&scheme.to_ascii_lowercase().as_str())
    {
        return Err(format!(
            "the scheme `{scheme}` of `{url}` is not carried: write `http://` or `https://`, or \
             for a connection of TCP `--destination` and `--protocol tcp`"
        ));
    }
    if let Some((before, _)) = url.split_once('#') {
        return Err(format!(
            "no client sends the fragment of `{url}`: write `{before}`"
        ));
    }
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(format!(
            "no client sends the user of `{url}`: leave it out, and write \
             `--header 'authorization: ...'` if that is meant"
        ));
    }
    Request::for_url(url).map_err(|error| error.to_string())
}

/// Name, in lower case, and value.
fn header_of(header: &str) -> Result<(String, String), String> {
    let shown = header.escape_debug();
    let Some((name, value)) = header.split_once(':') else {
        return Err(format!("`{shown}` is no header such as `end-user: jason`"));
    };
    let (name, value) = (name.trim(), value.trim_matches([' ', '\t']));
    if !is_token(name.as_bytes()) {
        return Err(format!(
            "`{}` is no name of a header: write letters, digits and `-`, as in `end-user: jason`",
            name.escape_debug()
        ));
    }
    if value.contains(['\r', '\n']) {
        return Err(format!(
            "the header `{shown}` has a line break, which would begin another one: write one \
             `--header` for each"
        ));
    }
    if let Some(wrong) = value.chars().find(|c| c.is_ascii_control() && *c != '\t') {
        return Err(format!(
            "the header `{shown}` has the control character `{}`: remove it",
            wrong.escape_default()
        ));
    }
    Ok((name.to_ascii_lowercase(), value.to_string()))
}

fn check_method(method: &str) -> Result<(), String> {
    // Methods are made of the same characters as names (RFC 9110 section 9.1).
    if !is_token(method.as_bytes()) {
        return Err(format!(
            "`{}` is no method: write one word, such as `GET`",
            method.escape_debug()
        ));
    }
    if method == "CONNECT" {
        let why = "CONNECT asks for a tunnel, which the proxy refuses with 403 whatever the \
                   configuration says";
        return Err(why.to_string());
    }
    Ok(())
}

/// Shows the request to the parser that the proxy reads it with.
fn check_as_received(request: &Request) -> Result<(), String> {
    let Request {
        method,
        target,
        authority,
        ..
    } = request;
    let mut text = format!("{method} {target} HTTP/1.1\r\nhost: {authority}\r\n");
    for (name, value) in &request.headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += "\r\n";
    let mut head = RequestHead::default();
    match parse_request(text.as_bytes(), &HeadLimits::default(), &mut head) {
        Ok(Progress::Complete) if head.upgrade == Upgrade::Other => Err(
            "the proxy answers an upgrade to anything but `websocket` with 403, whatever the \
             configuration says"
                .to_string(),
        ),
        Ok(Progress::Complete) => Ok(()),
        Ok(Progress::Incomplete) => Err("the request is no whole head".to_string()),
        Err(error) => Err(format!(
            "the proxy answers such a request with {}, whatever the configuration says: {}",
            error.status(),
            error.kind.explanation()
        )),
    }
}
